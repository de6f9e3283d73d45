"""Keeps a refined map within what the coarse map itself shows around every pixel.

A map that a network or a sensor made has edges that are nearly sharp, in roughly the right place, and surfaces of the
right depth: refined, a pixel may go over to the neighbouring surface, but there is none beyond both. What lies beyond
is a halo, a rim, or texture of the photograph that was taken for depth, and it is cut off. A map that was only blurred
is not treated so: a part narrower than the blur does lie outside of what its blurred map shows.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from prv2cli.files.disk_array import DiskArray, bands
from prv2cli.resampling.extremes import largest_around
from prv2cli.resampling.maps import bilinear, rows_of

GRID_SIDE = 1024  # cells on the longer side, at most
REACH = 3.0  # of the blurs that the map has: how far a surface is looked for
FINEST = 0.5  # pixels: no map is taken for sharper
SLACK = 0.02  # of a unit of the normalised map


def keep_in_range(refined: np.ndarray | DiskArray, coarse: Tensor, blur: float) -> None:
    """Cut off what lies beyond the coarse map's own values, in place, band by band.

    Args:
        refined: (H, W) in a refiner's space. coarse: (1, 1, h, w) of any size, in the same space.
        blur: standard deviation in pixels of `refined` of the blur that the coarse map has.
    """
    height, width = refined.shape
    cells = min(1.0, GRID_SIDE / max(height, width))
    size = [max(1, round(side * cells)) for side in (height, width)]
    reach = max(1, round(REACH * max(blur, FINEST) * cells))
    highest = bilinear(_largest(coarse, size, reach) + SLACK, (size[0], width))
    lowest = bilinear(-_largest(-coarse, size, reach) - SLACK, (size[0], width))
    for rows in bands(height, width):
        low, high = (rows_of(values, height, rows) for values in (lowest, highest))
        refined[rows] = np.clip(refined[rows], low, high)


def _largest(coarse: Tensor, size: list[int], reach: int) -> np.ndarray:
    """(rows, columns) of `size`: the largest value within `reach` cells each way."""
    larger = [max(new, old) for new, old in zip(size, coarse.shape[-2:], strict=True)]
    if larger != list(coarse.shape[-2:]):
        coarse = F.interpolate(coarse, size=larger, mode="bilinear", align_corners=False)
    found = largest_around(F.adaptive_max_pool2d(coarse, size), reach)
    return np.asarray(found[0, 0].float().numpy())
