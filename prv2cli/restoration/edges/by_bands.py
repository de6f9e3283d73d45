"""A filter that looks a few pixels around, over a map that may be too large for memory or for a processor's cache."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from prv2cli.files.disk_array import DiskArray

BAND_PIXELS, BAND_ROWS = 1 << 18, 64  # of what is worked on at once: it stays in a processor's cache


def by_bands(
    values: np.ndarray | DiskArray,
    reach: int,
    change: Callable[[np.ndarray, int], np.ndarray],
    threads: int = 1,
) -> None:
    """Change a map in place, band by band, as if it were one.

    Args:
        values: (H, W). reach: rows that a result depends on each way.
        change: (rows, W) as they were, and which row of the map the first of them is -> new ones, changed.
        threads: bands at a time; 1 where `change` has threads of its own, as torch's functions have.
    """
    height, width = values.shape
    rows = max(BAND_ROWS, BAND_PIXELS // width)
    above = np.empty((0, width), values.dtype)  # rows before what is read next, as they were
    with ThreadPoolExecutor(threads) as pool:
        for top in range(0, height, threads * rows):
            read = np.concatenate([above, values[top : top + threads * rows + reach]])
            start, end = top - len(above), min(top + threads * rows, height)
            above = read[max(0, end - reach - start) : end - start]
            tops = range(top, end, rows)
            firsts = [max(start, one - reach) for one in tops]
            blocks = [
                read[first - start : one + rows + reach - start]
                for one, first in zip(tops, firsts, strict=True)
            ]
            for one, first, block in zip(tops, firsts, pool.map(change, blocks, firsts), strict=True):
                values[one : min(one + rows, end)] = block[one - first : min(one + rows, end) - first]
