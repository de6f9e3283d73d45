"""Keeps a refined map within what the coarse map itself shows around every pixel.

A map that a network or a sensor made has edges that are nearly sharp, in roughly the right place, and surfaces of the
right depth: refined, a pixel may go over to the neighbouring surface, but there is none beyond both. What lies beyond
is a halo, a rim, or texture of the photograph that was taken for depth, and it is cut off. Beside a filled hole a
measured pixel goes over to measured surfaces only, and to none as far off: the depth of a hole is a guess.

Of a map that was only blurred the near side is left alone: a thing narrower than the blur does stand out of what its
blurred map shows. What is behind things is rarely so narrow, and a little too far is much in metres: it is cut off
there, too, in a wider window.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.files.disk_array import DiskArray, bands
from prv2cli.resampling.extremes import largest_around
from prv2cli.resampling.maps import bilinear, nearest_places, rows_of

GRID_SIDE = 1024  # cells on the longer side, at most
REACH = 3.0  # of the blurs that the map has: how far a surface is looked for
RIM_REACH = 1.5  # the same for measured pixels that are no farther from a hole
BLURRED_REACH = 16.0  # the same where the map was only blurred
FINEST = 0.5  # pixels: no map is taken for sharper
SLACK = 0.02  # of a unit of the normalised map


def keep_in_range(
    refined: np.ndarray | DiskArray,
    coarse: Tensor,
    blur: float,
    *,
    measured: Tensor | None = None,
    only_blurred: bool = False,
) -> None:
    """Cut off what lies beyond the coarse map's own values, in place, band by band.

    Args:
        refined: (H, W) in a refiner's space, farther being larger. coarse: (1, 1, h, w) of any size, in the same space.
        blur: standard deviation in pixels of `refined` of the blur that the coarse map has.
        measured: (1, 1, h, w) bool, False where `coarse` was filled; None: nowhere.
        only_blurred: nothing else is wrong with the coarse map; only what is too far is cut off, beside holes too.
    """
    height, width = refined.shape
    cells = min(1.0, GRID_SIDE / max(height, width))
    size = [max(1, round(side * cells)) for side in (height, width)]
    blur = max(blur, FINEST) * cells
    reach = max(1, round((BLURRED_REACH if only_blurred else REACH) * blur))
    highest = _largest(coarse, size, reach)
    if only_blurred:
        _clip(refined, None, highest)
        return
    lowest = -_largest(-coarse, size, reach)
    _clip(refined, lowest, highest)
    if measured is not None:
        reaches = reach, max(1, round(RIM_REACH * blur))
        highest = _largest_measured(coarse, measured, highest, reaches)
        lowest = -_largest_measured(-coarse, measured, -lowest, reaches)
        _clip(refined, lowest, highest, measured[0, 0].numpy())


def _clip(
    refined: np.ndarray | DiskArray,
    lowest: np.ndarray | None,
    highest: np.ndarray,
    where: np.ndarray | None = None,
) -> None:
    """To limits on a grid of cells, and a little beyond, in place; of all pixels, or those `where`, (h, w), is True."""
    height, width = refined.shape
    high = bilinear(highest + SLACK, (len(highest), width))
    low = None if lowest is None else bilinear(lowest - SLACK, (len(lowest), width))
    if where is not None:
        y, x = (nearest_places(new, old) for new, old in zip((height, width), where.shape, strict=True))
    for rows in bands(height, width):
        band = refined[rows]
        least = None if low is None else rows_of(low, height, rows)
        kept = np.clip(band, least, rows_of(high, height, rows))
        if where is not None:
            kept = np.where(where[y[rows, None], x], kept, band)
        refined[rows] = kept


def _largest(coarse: Tensor, size: list[int], reach: int) -> np.ndarray:
    """(rows, columns) of `size`: the largest value within `reach` cells each way."""
    return _around(_enlarged(coarse, size, "bilinear"), size, reach)


def _largest_measured(
    coarse: Tensor, measured: Tensor, everywhere: np.ndarray, reaches: tuple[int, int]
) -> np.ndarray:
    """The largest measured value around; from less far where a hole is no farther than that.

    Where nothing was measured, that of `everywhere`. reaches: cells each way, in general and beside a hole.
    """
    size, (reach, rim) = list(everywhere.shape), reaches
    there = _enlarged(measured.to(torch.uint8), size, "nearest-exact").bool()
    # No filled value is mixed in.
    known = _enlarged(coarse, size, "nearest-exact").where(there, -torch.inf)
    beside_hole = _around((~there).float(), size, rim) > 0
    largest = np.where(beside_hole, _around(known, size, rim), _around(known, size, reach))
    return np.where(np.isfinite(largest), largest, everywhere)


def _enlarged(values: Tensor, size: list[int], mode: str) -> Tensor:
    """(1, 1, h, w) with at least as many cells as `size` along each side."""
    larger = [max(new, old) for new, old in zip(size, values.shape[-2:], strict=True)]
    return values if larger == list(values.shape[-2:]) else F.interpolate(values, size=larger, mode=mode)


def _around(values: Tensor, size: list[int], reach: int) -> np.ndarray:
    """(rows, columns) of `size`: the largest of (1, 1, h, w), which has at least as many, within `reach` each way."""
    found = largest_around(F.adaptive_max_pool2d(values, size), reach)
    return np.asarray(found[0, 0].float().numpy())
