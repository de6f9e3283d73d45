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
RIM_REACH = 1.5  # the same for measured pixels that are no farther than this from a hole
BLURRED_REACH = 16.0  # the same where the map was only blurred
FINEST = 0.5  # pixels: no map is taken for sharper
SLACK = 0.02  # of a unit of the normalised map
_UNBOUND = 1e6  # beyond all normalised values


def keep_in_range(
    refined: np.ndarray | DiskArray, coarse: Tensor, blur: float, *, only_blurred: bool = False
) -> None:
    """Cut off what lies beyond the coarse map's own values, in place, band by band.

    Args:
        refined: (H, W) in a refiner's space, farther being larger. coarse: (1, 1, h, w) of any size, in the same space.
        blur: standard deviation in pixels of `refined` of the blur that the coarse map has.
        only_blurred: nothing else is wrong with the coarse map; only what is too far is cut off.
    """
    size, reach = _grid(refined.shape, blur, BLURRED_REACH if only_blurred else REACH)
    highest = _largest(coarse, size, reach)
    lowest = None if only_blurred else -_largest(-coarse, size, reach)
    _clip(refined, lowest, highest)


def keep_to_measured(refined: np.ndarray | DiskArray, coarse: Tensor, blur: float, measured: Tensor) -> None:
    """Cut off, of measured pixels beside holes, what lies beyond the values that were measured around, in place.

    Args:
        refined, coarse, blur: keep_in_range's. measured: (1, 1, h, w) bool, False where `coarse` was filled.
    """
    size, reach = _grid(refined.shape, blur, REACH)
    _, rim = _grid(refined.shape, blur, RIM_REACH)
    there = _enlarged(measured.to(torch.uint8), size, "nearest-exact").bool()
    known = _enlarged(coarse, size, "nearest-exact")  # so that no filled value is mixed in
    filled = _enlarged((~measured).float(), size, "bilinear")  # wherever a filled value counts
    close, near = (_around(filled, size, far) > 0 for far in (rim, reach))

    def largest(values: Tensor) -> np.ndarray:
        of_measured = values.where(there, -torch.inf)
        found = np.where(close, _around(of_measured, size, rim), _around(of_measured, size, reach))
        return np.where(near & np.isfinite(found), found, _UNBOUND)

    _clip(refined, -largest(-known), largest(known), measured[0, 0].numpy())


def _grid(shape: tuple[int, ...], blur: float, blurs: float) -> tuple[list[int], int]:
    """Rows and columns of the cells in which extremes are looked for, and how many of them are so many blurs."""
    cells = min(1.0, GRID_SIDE / max(shape))
    return [max(1, round(side * cells)) for side in shape], max(1, round(blurs * max(blur, FINEST) * cells))


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


def _enlarged(values: Tensor, size: list[int], mode: str) -> Tensor:
    """(1, 1, h, w) with at least as many cells as `size` along each side."""
    larger = [max(new, old) for new, old in zip(size, values.shape[-2:], strict=True)]
    return values if larger == list(values.shape[-2:]) else F.interpolate(values, size=larger, mode=mode)


def _around(values: Tensor, size: list[int], reach: int) -> np.ndarray:
    """(rows, columns) of `size`: the largest of (1, 1, h, w), which has at least as many, within `reach` each way."""
    found = largest_around(F.adaptive_max_pool2d(values, size), reach)
    return np.asarray(found[0, 0].float().numpy())
