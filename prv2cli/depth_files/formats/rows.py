"""A depth map as the numbers that are stored, a band of rows at a time: what every encoder is fed with.

depth (H, W) ─ Rows ─ bands of uint16 or float32 ─ an encoder
                └─ counts: clipped, invalid, coarsely rounded
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from prv2cli.files.disk_array import bands

TOP = 65535  # the largest 16-bit number: "clipped at the top"
FINE = 50  # from here on, half a step is at most 1 % of the number
BAND_PIXELS = 1 << 16  # 512 kB of float64: what stays in a processor's cache
INTEGER_LEVEL = 4  # zlib: on depth, 10 % larger files than level 6 in a third of its time
FLOAT_LEVEL = 1  # higher levels gain 1 % on float32 depth for twice the time
FAR_END = 1e-3  # of the largest number of a map without a zero: as little as can be told


def row_bands(height: int, width: int) -> Iterator[slice]:
    """Slices of rows of about BAND_PIXELS pixels each."""
    return bands(height, width, BAND_PIXELS)


def least_turned_over(values: np.ndarray, kind: str) -> float | None:
    """What smaller numbers of a map without a zero of its own count as when it is turned over; None: they stay.

    What is turned over has a zero: inverse depth at it or beyond becomes the farthest that can be told, depth the
    nearest. Depth that is above it everywhere is turned over as it is.
    """
    if kind == "depth" and not any((values[rows] <= 0).any() for rows in row_bands(*values.shape)):
        return None
    return far_end(values)


def far_end(values: np.ndarray) -> float:
    """As little as can be told beside the largest number: 1/0 is none."""
    largest = max(
        float(np.fmax.reduce(values[rows], axis=None, initial=0)) for rows in row_bands(*values.shape)
    )
    return max(largest, 1e-12) * FAR_END


@dataclass
class Rows:
    """The stored form of `depth` (H, W). Iterating yields (rows, W) bands and sets the counts of pixels.

    uint16: round(depth * scale), 0 = no depth, TOP = that or more; a depth that would round to 0 becomes 1.
    float32: the value itself, NaN = no depth. `invert` stores 1/depth instead.
    No depth is anything that is not finite and above 0; in a `signed` map, which has no zero of its own, anything that
    is not finite: a float is then stored as it is, and an integer at 0 and below becomes 1. What is less than `least`
    counts as that.
    `on_band` is called before each band; what it raises ends the encoding.
    """

    depth: np.ndarray
    dtype: np.dtype[Any]
    scale: float = 1.0
    invert: bool = False
    signed: bool = False
    least: float | None = None
    clipped: int = 0  # larger than TOP
    invalid: int = 0
    rounded: int = 0  # below FINE, where rounding may pass 1 %
    on_band: Callable[[], None] = lambda: None

    @property
    def shape(self) -> tuple[int, int]:
        return self.depth.shape[0], self.depth.shape[1]

    @property
    def per_band(self) -> int:
        return max(1, BAND_PIXELS // self.shape[1])

    def __iter__(self) -> Iterator[np.ndarray]:
        self.clipped = self.invalid = self.rounded = 0
        for band in self._bands():
            with np.errstate(all="ignore"):
                stored = self._integers(band) if self.dtype == np.uint16 else self._floats(band)
            yield stored

    def count_clipped(self) -> int:
        """How many pixels are too large for uint16: most formats want the number before the pixels."""
        clipped = 0
        with np.errstate(all="ignore"):
            for band in self._bands():
                steps = np.multiply(band, self.scale, dtype=np.float64)
                clipped += int(np.count_nonzero((steps >= TOP + 0.5) & (band < np.inf)))
        return clipped

    def _bands(self) -> Iterator[np.ndarray]:
        for rows in row_bands(*self.shape):
            self.on_band()
            band = np.ascontiguousarray(self.depth[rows])
            if self.least is not None:
                band = np.maximum(band, self.least)
            if self.invert:
                with np.errstate(all="ignore"):
                    band = np.reciprocal(band, dtype=np.float64)
            yield band

    def _integers(self, band: np.ndarray) -> np.ndarray:
        steps = np.multiply(band, self.scale, dtype=np.float64)
        valid = np.isfinite(band) if self.signed else (band > 0) & (band < np.inf)
        np.rint(steps, out=steps)
        self.clipped += int(np.count_nonzero((steps > TOP) & valid))
        self.rounded += int(np.count_nonzero((steps < FINE) & valid))
        self.invalid += valid.size - int(np.count_nonzero(valid))
        np.fmax(steps, 1, out=steps)  # of NaN and 1, fmax takes the 1
        np.minimum(steps, TOP, out=steps)
        steps *= valid
        return steps.astype(np.uint16)

    def _floats(self, band: np.ndarray) -> np.ndarray:
        values = band.astype(np.float32)
        bad = ~np.isfinite(values)
        if not self.signed:
            bad |= ~(values > 0)
        values[bad] = np.nan
        self.invalid += int(np.count_nonzero(bad))
        return values
