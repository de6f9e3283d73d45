"""Keeps a refined map within what the coarse map itself shows around every pixel.

A map that a network or a sensor made has edges that are nearly sharp, in roughly the right place, and surfaces of the
right depth: refined, a pixel may go over to the neighbouring surface, but there is none beyond both. What lies beyond
is a halo, a rim, or texture of the photograph that was taken for depth, and it is cut off. Of a map that was only
blurred the near side is left alone: a thing narrower than the blur does stand out of what its blurred map shows. What
is behind things is rarely so narrow, and a little too far is much in metres: it is cut off there, too, in a wider
window.
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
BLURRED_REACH = 16.0  # the same where the map was only blurred
FINEST = 0.5  # pixels: no map is taken for sharper
SLACK = 0.02  # of a unit of the normalised map


def keep_in_range(
    refined: np.ndarray | DiskArray, coarse: Tensor, blur: float, *, only_blurred: bool = False
) -> None:
    """Cut off what lies beyond the coarse map's own values, in place, band by band.

    Args:
        refined: (H, W) in a refiner's space, farther being larger. coarse: (1, 1, h, w) of any size, in the same space.
        blur: standard deviation in pixels of `refined` of the blur that the coarse map has.
        only_blurred: nothing else is wrong with the coarse map; only what is too far is cut off.
    """
    height, width = refined.shape
    cells = min(1.0, GRID_SIDE / max(height, width))
    size = [max(1, round(side * cells)) for side in (height, width)]
    reach = max(1, round((BLURRED_REACH if only_blurred else REACH) * max(blur, FINEST) * cells))
    highest = bilinear(_largest(coarse, size, reach) + SLACK, (size[0], width))
    lowest = None if only_blurred else bilinear(-_largest(-coarse, size, reach) - SLACK, (size[0], width))
    for rows in bands(height, width):
        low = None if lowest is None else rows_of(lowest, height, rows)
        refined[rows] = np.clip(refined[rows], low, rows_of(highest, height, rows))


def _largest(coarse: Tensor, size: list[int], reach: int) -> np.ndarray:
    """(rows, columns) of `size`: the largest value within `reach` cells each way."""
    larger = [max(new, old) for new, old in zip(size, coarse.shape[-2:], strict=True)]
    if larger != list(coarse.shape[-2:]):
        coarse = F.interpolate(coarse, size=larger, mode="bilinear", align_corners=False)
    found = largest_around(F.adaptive_max_pool2d(coarse, size), reach)
    return np.asarray(found[0, 0].float().numpy())
