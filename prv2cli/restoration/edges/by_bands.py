"""A filter that looks a few pixels around, over a map that may be too large for memory or for a processor's cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prv2cli.files.disk_array import DiskArray

BAND_PIXELS, BAND_ROWS = 1 << 18, 64  # of what is worked on at once: it stays in a processor's cache


def by_bands(
    values: np.ndarray | DiskArray, reach: int, change: Callable[[np.ndarray, int], np.ndarray]
) -> None:
    """Change a map in place, band by band, as if it were one.

    Args:
        values: (H, W). reach: rows that a result depends on each way.
        change: (rows, W) as they were, and which row of the map the first of them is -> the same rows, changed.
    """
    height, width = values.shape
    rows = max(BAND_ROWS, BAND_PIXELS // width)
    above = np.empty((0, width), values.dtype)  # rows before the band, as they were
    for top in range(0, height, rows):
        block = np.concatenate([above, values[top : top + rows + reach]])
        first, last = len(above), min(len(above) + rows, len(block))
        above = block[max(0, last - reach) : last]
        values[top : top + rows] = change(block, top - first)[first:last]
