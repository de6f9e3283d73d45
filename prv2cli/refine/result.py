"""What refining one photograph gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from prv2cli.coarse.network import Unit


@dataclass(frozen=True)
class Depth:
    """The result for one photograph.

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
