"""What comes after the tiles: the blended map -> Depth, in memory or on disk, by bands of rows.

Blended ─ seam measured ─ back-projection, edges steepened ─ decoded ─> Depth
    └──── disagreement ──────────────────────────────────── confidence ──┘
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from prv2cli.files.disk_array import DiskArray, bands
from prv2cli.model.config import RefinerConfig
from prv2cli.model.depth_space import LogNormalisation, PlainMetres
from prv2cli.restoration.back_projection import back_project
from prv2cli.restoration.shock_filter import shock_filter
from prv2cli.tiling.blend import Blended, MapArray, seam_excess
from prv2cli.tiling.disagreement import to_confidence
from prv2cli.tiling.plan import TilePlan

if TYPE_CHECKING:
    from prv2cli.choices import Unit


@dataclass(frozen=True)
class Depth:
    """The result for one photograph.

    Of a photograph on disk `depth` and `confidence` lie there too, until the object is closed (or used with `with`).

    Attributes:
        depth: (H, W) float32, > 0 everywhere, in `unit`: metres, or relative where the coarse depth had no unit.
        coarse: (h, w) float32, the coarse depth that was refined, holes filled.
        confidence: (H, W) float32 in (0, 1], NaN where it is not known (disagreement.FORMULA); None if not asked for.
        tiling: the tile plan in words. seam: how much steeper the map is across tile borders (0 = nothing to be seen).
        seconds: by part (coarse, reduced, tiles, fuse).
    """

    depth: np.ndarray
    coarse: np.ndarray
    tiling: str
    seam: float
    tiles: int
    batch_size: int
    device: str
    precision: str
    unit: Unit = "metre"
    tta: str | None = None  # "flip": the mean of the photograph and its mirror image
    confidence: np.ndarray | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def close(self) -> None:
        """Give the disk space back; nothing happens in memory."""
        for array in (self.depth, self.confidence):
            if isinstance(array, DiskArray):
                array.close()

    def __enter__(self) -> Depth:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Fused:
    """(H, W) depth and confidence of a photograph, and how much its tiles' borders show."""

    depth: MapArray
    confidence: MapArray | None
    seam: float


def fuse(
    blended: Blended,
    plan: TilePlan,
    scale: LogNormalisation | PlainMetres,
    target: Tensor | None,
    config: RefinerConfig,
) -> Fused:
    """The blended map in the space of `scale` becomes the depth, its disagreement the confidence, in place.

    Args:
        target: Prepared.target().
    """
    values, spread = blended
    seam = seam_excess(values, plan, floor=scale.floor)
    correct(values, target, scale, config)
    for rows in bands(*values.shape):
        values[rows] = depth = scale.decode_in_place(values[rows])
        if spread is not None:
            spread[rows] = to_confidence(scale.relative_in_place(spread[rows], depth))
    return Fused(values, spread, seam)


def correct(
    refined: MapArray, target: Tensor | None, scale: LogNormalisation | PlainMetres, config: RefinerConfig
) -> None:
    """Do to the whole refined map, (H, W) in the space of `scale`, what no tile can do, in place."""
    if isinstance(scale, LogNormalisation):
        if target is not None:
            back_project(refined, target, config.back_projection)
        shock_filter(refined, config.shock_filter, float(scale.spread))
