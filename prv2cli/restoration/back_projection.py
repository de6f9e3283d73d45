"""Back-projection: brings a refined map to where, blurred as the coarse map is, it gives the coarse map again.

A network that looks through a blur draws the edges where they are, but a part narrower than the blur keeps some of
its background's depth. What is missing there can be computed: blur the refined map, compare it with the coarse one,
correct the surfaces, repeat (iterative back-projection; Irani and Peleg, CVGIP 1991). Four things are ours:

- the blur is not known. It is the Gaussian through which the refined map resembles the coarse one most;
- a correction must not blur the edges. Around every pixel it is a gain and an offset of the refined depth itself, by
  least squares in a window (the local linear model of the guided filter; He et al., ECCV 2010): the near and the far
  surface there move each by its own amount, and the edge between them stays where it is;
- what no blurred map can contain, and the coarse map has, is noise: the correction leaves out as much of it at every
  frequency (Wiener's filter);
- all of it happens on a grid of cells, so that the photograph may have any size. Of the full map only the cells' means
  and mean squares are taken; the gain and the offset are up-sampled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prv2cli.files.disk_array import BAND_PIXELS, DiskArray, bands
from prv2cli.resampling.guide import to_guide
from prv2cli.restoration.blur import blur, blur_between, map_of, passed, ring_sums, rings, spectrum_of

GRID_SIDE = 512  # cells on the longer side, at most
STRIDE = 1.4  # of a correction: steps that go a little too far arrive in half as many
LOOKED_FOR = 2  # steps that look for the blur anew: what the others correct does not change it
WINDOW = 0.9  # standard deviation of a (Gaussian) window, in those of the blur
FLAT = 1e-3  # variance of normalised log-depth within a window below which there are not two surfaces to tell apart
GAINS = (-0.5, 1.0)  # above -1: what was nearer stays nearer
RESOLVED = 1.0  # cells: a narrower blur cannot be seen on the grid
NOISE_BAND = (0.02, 0.2)  # what a blur lets pass of the frequencies by which the noise is judged
_NOISE_RINGS = 128


class Cells(NamedTuple):
    """Means over the cells of a grid, each (1, 1, rows, columns)."""

    mean: Tensor
    square: Tensor


class OnGrid(NamedTuple):
    """A refined map and the coarse one on one grid of cells.

    refined: its cells. coarse: (1, 1, rows, columns). cell: height of a cell in pixels of the refined map.
    """

    refined: Cells
    coarse: Tensor
    cell: float


class Difference(NamedTuple):
    """Between a coarse map and the refined one.

    blur: standard deviation in pixels of the refined one; 0: none lies between the two.
    unexplained: share of the squared difference that no blur explains. At most 0.13 where the coarse map was a true one
        that was blurred, 0.17 and more where a network or a sensor made it: what is wrong there is no blur, and to undo
        one does harm.
    scattered: the same of the absolute difference, in which what is a little wrong everywhere counts for more.
    """

    blur: float
    unexplained: float
    scattered: float


class Correction(NamedTuple):
    """What to add to a map x: gain * x + offset, each (1, 1, rows, columns) on the grid of cells."""

    gain: Tensor
    offset: Tensor


def on_grid(refined: np.ndarray | DiskArray, coarse: Tensor) -> OnGrid:
    """What `difference` and `back_project` look at; the refined map is read once.

    Args:
        refined: (H, W) normalised log-depth.
        coarse: (1, 1, h, w) of any size, the map that was refined, in the same space.
    """
    cells = average(refined)
    rows, columns = cells.mean.shape[-2:]
    return OnGrid(cells, to_guide(coarse, (rows, columns)), refined.shape[0] / rows)


def back_project(refined: np.ndarray | DiskArray, grid: OnGrid, steps: int) -> None:
    """Correct `refined` in place.

    Args:
        refined: (H, W) normalised log-depth. grid: on_grid's of it, as it is, and of the coarse map.
        steps: how many times it is blurred, compared and corrected. 0: nothing happens.
    """
    correction = find_correction(grid.refined, grid.coarse, steps)
    if correction is not None:
        apply(correction, refined)


def difference(grid: OnGrid) -> Difference:
    """What lies between a coarse map and the refined one: a blur, and what no blur explains."""
    cells, seen = grid.refined.mean, grid.coarse
    sigma, changed = blur_between(cells, seen), seen - cells
    if sigma == 0 or not changed.any():
        return Difference(0.0, 1.0, 1.0)
    left = seen - blur(cells, sigma)
    squares = float(left.square().sum() / changed.square().sum())
    return Difference(sigma * grid.cell, squares, float(left.abs().sum() / changed.abs().sum()))


def average(values: np.ndarray | DiskArray, side: int = GRID_SIDE) -> Cells:
    """(H, W) -> means on a grid of at most `side` cells each way; bands of rows are read, never the whole map."""
    height, width = values.shape
    shrink = max(1.0, max(height, width) / side)
    rows, columns = (_borders(length, max(1, round(length / shrink))) for length in (height, width))
    means = np.empty((2, len(rows) - 1, len(columns) - 1), np.float32)
    step = max(1, int(BAND_PIXELS / (width * shrink)))
    for first in range(0, len(rows) - 1, step):
        last = min(first + step, len(rows) - 1)
        band = values[int(rows[first]) : int(rows[last])]
        for kind, part in enumerate((band, np.square(band))):
            sums = np.add.reduceat(part, columns[:-1], axis=1)
            sums = np.add.reduceat(sums, rows[first:last] - rows[first], axis=0)
            means[kind, first:last] = sums
    means /= np.diff(rows)[:, None] * np.diff(columns)
    return Cells(*(torch.from_numpy(part)[None, None] for part in means))


def _borders(length: int, count: int) -> np.ndarray:
    """The first pixel of each of `count` cells, and the end."""
    return np.round(np.linspace(0, length, count + 1)).astype(np.int64)


def find_correction(cells: Cells, coarse: Tensor, steps: int) -> Correction | None:
    """From the refined map's cells and the coarse map on the same grid; None where no blur lies between the two."""
    gain, offset, corrected = torch.zeros_like(coarse), torch.zeros_like(coarse), cells.mean
    found, least = None, float("inf")
    for step in range(steps + 1):
        if step < LOOKED_FOR:
            sigma = blur_between(corrected, coarse)
            if sigma < RESOLVED:
                break
            around = _Around.of(cells, WINDOW * sigma)
        missing = coarse - blur(corrected, sigma)
        left = float(missing.square().sum())
        if left >= least:  # the map is wrong in a way that no such correction explains
            break
        found, least = (Correction(gain, offset) if step else None), left
        if step == steps:
            break
        slope, level = around.line(_without_noise(missing, sigma))
        gain = (gain + STRIDE * slope).clamp(*GAINS)
        offset = offset + STRIDE * level
        corrected = (1 + gain) * cells.mean + offset
    return found


class _Around(NamedTuple):
    """The depth around each cell, in a window: its mean and variance, each (1, 1, rows, columns)."""

    cells: Cells
    window: float
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, cells: Cells, window: float) -> _Around:
        mean = blur(cells.mean, window)
        return cls(cells, window, mean, (blur(cells.square, window) - mean.square()).clamp_min(0) + FLAT)

    def line(self, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and level of what is missing as a function of the depth: a guided filter's two maps."""
        mean_missing = blur(missing, self.window)
        slope = (blur(self.cells.mean * missing, self.window) - self.mean * mean_missing) / self.variance
        return blur(slope, self.window), blur(mean_missing - slope * self.mean, self.window)


def _without_noise(missing: Tensor, sigma: float) -> Tensor:
    """Wiener's filter of what is missing, with white noise as strong as where hardly anything passes the blur."""
    spectrum, frequency = spectrum_of(missing)
    power = spectrum.abs().square()
    left = passed(sigma, frequency)
    judged = (left > NOISE_BAND[0]) & (left < NOISE_BAND[1])
    if not judged.any():
        return missing
    ring = rings(frequency, _NOISE_RINGS)
    mean_power = ring_sums(power, ring, _NOISE_RINGS) / torch.bincount(
        ring, minlength=_NOISE_RINGS
    ).clamp_min(1)
    share = (1 - power[..., judged].mean() / mean_power.clamp_min(1e-20)).clamp(0, 1).float()
    return map_of(spectrum * share[ring].view(frequency.shape), missing.shape)


def apply(correction: Correction, values: np.ndarray | DiskArray) -> None:
    """Add gain * x + offset, up-sampled bilinearly, to every x of (H, W) `values`, in place and band by band."""
    height, width = values.shape
    gain, offset = (_along(part[0, 0].numpy(), width, axis=1) for part in correction)
    for rows in bands(height, width):
        band = values[rows]
        band += band * _along(gain, height, axis=0, part=rows) + _along(offset, height, axis=0, part=rows)
        values[rows] = band


def _along(cells: np.ndarray, length: int, axis: int, part: slice = slice(None)) -> np.ndarray:
    """Bilinear along one axis, from cells to the pixels `part` of `length`; half-pixel centres, border repeated."""
    count = cells.shape[axis]
    place = (np.arange(length, dtype=np.float32)[part] + 0.5) * (count / length) - 0.5
    place = place.clip(0, count - 1)
    below = place.astype(np.int64)
    share = (place - below).astype(np.float32)
    share = share[:, None] if axis == 0 else share
    low, high = cells.take(below, axis), cells.take(np.minimum(below + 1, count - 1), axis)
    high -= low
    high *= share
    return low + high
