"""Area averages of a photograph on disk, equal to area.py's of an array bit by bit. numpy and Pillow only.

Both average along the rows first, with Pillow's BOX filter: that can be done a band at a time. Along the columns
Pillow would need the whole picture at once. That half follows its arithmetic here: a plain mean of the rows
whose centres lie in an output row, with weights of 22 binary digits where pixels have 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from prv2cli.files.disk_array import DiskArray

_WEIGHT_BITS = 22
_IN_MEMORY_BYTES = 64 << 20


def shrink_on_disk(rgb: DiskArray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 or uint16 -> (*size, 3) float32 in 0..1."""
    small = np.empty((*size, 3), np.float32)
    y = 0
    for rows in _averaged(rgb, size):
        small[y : y + len(rows)] = rows
        y += len(rows)
    small /= _top(rgb)
    return small


def reduce_on_disk(rgb: DiskArray, size: tuple[int, int]) -> DiskArray | np.ndarray:
    """(H, W, 3) uint8 or uint16 -> (*size, 3) of the same type; on disk again where that is still large."""
    shape = (*size, 3)
    small: DiskArray | np.ndarray
    if math.prod(shape) * rgb.dtype.itemsize > _IN_MEMORY_BYTES:
        small = DiskArray(shape, rgb.dtype, rgb.folder)
    else:
        small = np.empty(shape, rgb.dtype)
    top = np.float32(_top(rgb))
    y = 0
    for rows in _averaged(rgb, size):
        small[y : y + len(rows)] = np.round(rows.astype(np.float32) / top * top)
        y += len(rows)
    return small


def _top(rgb: DiskArray) -> int:
    return 255 if rgb.dtype == np.uint8 else 65535


def _averaged(rgb: DiskArray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Bands of the shrunk photograph from the top: (n, width, 3) in Pillow's own type, uint8 or float32."""
    windows = _windows(rgb.shape[0], size[0])
    waiting = np.empty((0, size[1], 3), np.uint8 if rgb.dtype == np.uint8 else np.float32)
    first = done = 0  # the first row that waits; output rows that are made
    for band in rgb.bands():
        waiting = np.concatenate([waiting, _along_rows(rgb[band], size[1])])
        ready = done
        while ready < len(windows) and windows[ready].stop <= band.stop:
            ready += 1
        if ready == done:
            continue
        yield np.stack([_mean(waiting[w.start - first : w.stop - first]) for w in windows[done:ready]])
        done = ready
        keep = min(windows[done].start, band.stop) if done < len(windows) else band.stop
        waiting, first = waiting[keep - first :], keep


def _along_rows(band: np.ndarray, width: int) -> np.ndarray:
    target = (width, len(band))
    if band.dtype == np.uint8:
        return np.asarray(Image.fromarray(band).resize(target, Image.Resampling.BOX))
    channels = [Image.fromarray(band[..., c].astype(np.float32)) for c in range(3)]
    return np.stack(
        [np.asarray(channel.resize(target, Image.Resampling.BOX)) for channel in channels], axis=-1
    )


class _Window(NamedTuple):
    """The rows that are averaged into one row of the output."""

    start: int
    stop: int


def _windows(length: int, count: int) -> list[_Window]:
    """The rows of each output row: those whose centre, in units of an output row, lies in (-0.5, 0.5] about its own."""
    scale = length / count
    reach = max(scale, 1.0)
    windows = []
    for i in range(count):
        centre = (i + 0.5) * scale
        low, high = max(0, int(centre - reach / 2 + 0.5)), min(length, int(centre + reach / 2 + 0.5))
        place = (np.arange(low, high) - centre + 0.5) * (1.0 / reach)
        inside = np.flatnonzero((place > -0.5) & (place <= 0.5))
        windows.append(_Window(low + int(inside[0]), low + int(inside[-1]) + 1))
    return windows


def _mean(rows: np.ndarray) -> np.ndarray:
    """The mean over the first axis: (n, width, 3) -> (width, 3), rounded as Pillow rounds."""
    if rows.dtype == np.uint8:
        weight = int(0.5 + (1.0 / len(rows)) * (1 << _WEIGHT_BITS))
        total = rows.sum(axis=0, dtype=np.int64) * weight + (1 << (_WEIGHT_BITS - 1))
        return np.minimum(total >> _WEIGHT_BITS, 255).astype(np.uint8)
    weights = rows.astype(np.float64) * (1.0 / len(rows))
    return weights.sum(axis=0).astype(np.float32)
