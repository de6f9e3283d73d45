"""What comes after the tiles: the blended map -> Depth, in memory or on disk, by bands of rows.

Blended ─ seam measured ─ back-projection, edges steepened and laid along the photograph's ─ decoded ─> Depth
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
from prv2cli.model.depth_space import Affine, LogNormalisation, PlainMetres, Scale
from prv2cli.refine.sky import Sky
from prv2cli.restoration.back_projection import back_project, difference, on_grid
from prv2cli.restoration.change import add_change
from prv2cli.restoration.edges.shock_filter import CLEAN_EDGE, EDGE, shock_filter
from prv2cli.restoration.edges.weighted_median import SPACINGS, spacings_for, weighted_median
from prv2cli.restoration.own_range import keep_in_range, keep_to_measured
from prv2cli.tiling.blend import Blended, MapArray, seam_excess
from prv2cli.tiling.disagreement import to_confidence
from prv2cli.tiling.plan import TilePlan

if TYPE_CHECKING:
    from prv2cli.choices import FocalOrigin, Kind, Unit

BLURRED = 0.15  # of the difference between the maps that no blur explains: blurred maps have up to 0.13
WEAK_NOISE = 0.07  # of the spread: a map without it is as blurred as before


@dataclass(frozen=True)
class Depth:
    """The result for one photograph.

    Of a photograph on disk `depth` and `confidence` lie there too, until the object is closed (or used with `with`).

    Attributes:
        depth: (H, W) float32, > 0, in `unit`: metres, or relative where the coarse depth had no unit; NaN where the
            coarse network saw no surface, such as the sky, or a given map has holes that are kept: so many pixels are
            `masked`. `filled`: so many have depth although a given map has none there.
        kind, affine: a given map of relative inverse depth is refined as such: then `depth` holds inverse depth, which
            is known up to a scale and an offset, and may be 0 or below (far).
        coarse: (h, w) float32, the coarse depth that was refined, holes filled. seen: (h, w) bool, False where it has
            no depth that the result keeps: in the sky, and in holes that are kept; None: it has depth everywhere.
        focal_px: focal length in pixels of the photograph, as it was given, read from its EXIF data or estimated by
            the coarse network: `focal_origin` says which. None: nobody knows.
        normals: (3, h, w) float32, the coarse network's own: x to the right, y down, z away from the camera; None
            where it gives none.
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
    kind: Kind = "depth"
    affine: bool = False
    tta: str | None = None  # "flip": the mean of the photograph and its mirror image
    confidence: np.ndarray | None = None
    masked: int = 0
    filled: int = 0
    focal_px: float | None = None
    focal_origin: FocalOrigin | None = None
    normals: np.ndarray | None = None
    seen: np.ndarray | None = None
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
    """(H, W) depth and confidence of a photograph, how much its tiles' borders show, how many pixels are sky."""

    depth: MapArray
    confidence: MapArray | None
    seam: float
    masked: int


def fuse(
    blended: Blended,
    plan: TilePlan,
    scale: Scale,
    given: Tensor | None,
    pixels: np.ndarray | DiskArray,
    config: RefinerConfig,
    sky: Sky | None = None,
    *,
    noise: float = 0.0,
    measured: Tensor | None = None,
    estimated: bool = False,
) -> Fused:
    """The blended map in the space of `scale` becomes the depth, its disagreement the confidence, in place.

    In the sky both are NaN.

    Args:
        given: Prepared's. pixels: (H, W, 3), the photograph. noise: standard deviation of what was taken out of
            `given`. measured: (1, 1, h, w) bool, False where `given` was filled; None: nowhere. estimated: a network
            made it.
    """
    values, spread = blended
    seam = seam_excess(values, plan, floor=scale.floor)
    if given is not None and not isinstance(scale, PlainMetres):
        correct(values, given, pixels, scale, config, noise=noise, measured=measured, estimated=estimated)
        if spread is not None:
            add_change(spread, values, given)
    masked = 0
    for rows in bands(*values.shape):
        depth = scale.decode_in_place(values[rows])
        certain = None if spread is None else to_confidence(scale.relative_in_place(spread[rows], depth))
        if sky is not None:
            hidden = sky.of(depth, rows, values.shape[0])
            masked += int(hidden.sum())
            depth[hidden] = np.nan
            if certain is not None:
                certain[hidden] = np.nan
        values[rows] = depth
        if spread is not None and certain is not None:
            spread[rows] = certain
    return Fused(values, spread, seam, masked)


def correct(
    refined: MapArray,
    given: Tensor,
    pixels: np.ndarray | DiskArray,
    scale: LogNormalisation | Affine,
    config: RefinerConfig,
    *,
    noise: float,
    measured: Tensor | None = None,
    estimated: bool = False,
) -> None:
    """Do to the whole refined map, (H, W) in the space of `scale`, what no tile can do, in place.

    Back-projection and the shock filter undo a blur, and do harm where the map is wrong in other ways; how far it is a
    blurred one decides, and also how closely the refined map is kept to the coarse one's own range.
    The weighted median is right behind maps of every kind, and looks farther where edges were blurred by more.
    `noise`: what is otherwise wrong; by back-projection it would come back. A blurred map with weak noise is still to
    be made sharp; what looks like noise in a network's map, which is `estimated`, is none, and to be left smooth.
    """
    if not (config.back_projection or config.shock_filter or config.weighted_median or config.own_range):
        return
    grid = on_grid(refined, given)
    found = difference(grid)
    blurred = found.unexplained <= BLURRED
    if blurred and noise == 0:
        back_project(refined, grid, config.back_projection)
    if config.own_range:
        keep_in_range(refined, given, found.blur, only_blurred=blurred)
    if blurred or (0 < noise < WEAK_NOISE and not estimated):
        shock_filter(refined, config.shock_filter, scale.contrast, EDGE if noise else CLEAN_EDGE)
    if config.weighted_median:
        spacings = spacings_for(found.blur) if blurred else SPACINGS
        weighted_median(refined, pixels, scale.contrast, spacings)
    # Last, as a median is of filled values, too.
    if config.own_range and measured is not None and not blurred:
        keep_to_measured(refined, given, found.blur, measured)
