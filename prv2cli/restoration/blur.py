"""Gaussian blurs of maps, in the frequency domain: how to make one, and which one lies between two maps.

Maps are mirrored to twice their size, so that their borders do not meet.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

BLURS = (0.5, 48.0)  # standard deviations that are tried, in cells
FASTEST = math.sqrt(0.5)  # cycles a cell, the highest frequency of a grid
_RINGS = 1024  # of about equal frequency, in which spectra are summed; narrower where it is low


def blur(values: Tensor, sigma: float) -> Tensor:
    """(1, 1, h, w), blurred by a Gaussian with a standard deviation of `sigma` pixels, mirrored at the borders."""
    spectrum, frequency = spectrum_of(values)
    return map_of(spectrum * passed(sigma, frequency), values.shape)


def blur_between(sharp: Tensor, blurred: Tensor) -> float:
    """Standard deviation, in pixels, of the Gaussian that brings a map nearest to a blurred one.

    Both (1, 1, h, w). Nearest by squares, taken in the frequency domain (Parseval). 0: none that is tried is
    better than no blur.
    """
    (source, frequency), (target, _) = spectrum_of(sharp), spectrum_of(blurred)
    twice = torch.full((source.shape[-1],), 2.0)  # a real map's spectrum has each column but these two twice
    twice[0] = twice[-1] = 1
    ring = rings(frequency, _RINGS)
    own = ring_sums(source.abs().square() * twice, ring, _RINGS)
    common = ring_sums((source * target.conj()).real * twice, ring, _RINGS)
    middle = FASTEST * ((torch.arange(_RINGS, dtype=torch.float64) + 0.5) / _RINGS).square()

    def distances(sigmas: np.ndarray) -> Tensor:
        """Squared differences, but for what does not depend on the blur."""
        left = passed(torch.from_numpy(sigmas)[:, None], middle)
        return (left.square() * own - 2 * left * common).sum(dim=1)

    tried = np.geomspace(*BLURS, 64)
    found = distances(tried).numpy()
    best = int(found.argmin())
    if found[best] >= float(own.sum() - 2 * common.sum()):
        return 0.0
    if best in (0, len(tried) - 1):
        return float(tried[best])
    before, here, after = found[best - 1 : best + 2]
    # The minimum of a parabola: no jump from one blur that is tried to the next.
    bend = before - 2 * here + after
    shift = (before - after) / (2 * bend) if bend > 0 else 0.0
    return float(tried[best] * (tried[1] / tried[0]) ** shift)


def passed(sigma: float | Tensor, frequency: Tensor) -> Tensor:
    """What a Gaussian blur leaves of a frequency."""
    return torch.exp(-2 * (math.pi * sigma * frequency).square())


def rings(frequency: Tensor, count: int) -> Tensor:
    """Of each entry of a spectrum, flattened, the ring that it belongs to."""
    return (count * (frequency / FASTEST).sqrt()).long().clamp_max(count - 1).flatten()


def ring_sums(power: Tensor, ring: Tensor, count: int) -> Tensor:
    """What a spectrum has in each ring, (count,) float64."""
    return torch.bincount(ring, power.flatten().double(), minlength=count)


def map_of(spectrum: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of spectrum_of."""
    height, width = shape[-2:]
    return torch.fft.irfft2(spectrum, s=(2 * height, 2 * width))[..., :height, :width]


def spectrum_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of (1, 1, h, w), mirrored to twice its size: the half spectrum, and the frequency of each entry per pixel."""
    mirrored = torch.cat([values, values.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2)
    return torch.fft.rfft2(mirrored), _frequencies(*mirrored.shape[-2:])


@functools.lru_cache(maxsize=1)  # the maps of one photograph are of one size
def _frequencies(height: int, width: int) -> Tensor:
    return torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
