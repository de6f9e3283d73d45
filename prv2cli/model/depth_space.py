"""The space a refiner works in.

Normalised log-depth (ours): one centre and one spread per image, so that the refiner knows no unit. Scaling the coarse
map by k moves the centre by log k and nothing else: the result scales by k. Metres: the authors'.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

SPREAD_FLOOR = 1e-3  # relative depth; a flat map may change by at most a few times this
SPREAD_OF_DEVIATION = 1.5
NETWORK_LIMIT = 6.0  # sky beside a hand is 400:1; what the network sees is clamped, what it corrects is not
INVISIBLE_STEP = 1e-6  # of the depth, from pixel to pixel: a tenth of what a 16-bit file resolves at its best
MIN_METRES = 1e-3
_SAMPLES = 1 << 18


class LogNormalisation(NamedTuple):
    """centre and spread of an image's coarse log-depth, each (N, 1, 1, 1)."""

    centre: Tensor
    spread: Tensor

    @classmethod
    def of(cls, depth: Tensor) -> LogNormalisation:
        """Median and 1.5 mean absolute deviations of (N, 1, h, w) metres, all > 0."""
        log_depth = depth.log().flatten(1)
        step = max(1, log_depth.shape[1] // _SAMPLES)
        sample = log_depth[:, ::step]
        centre = sample.median(dim=1, keepdim=True).values
        spread = (sample - centre).abs().mean(dim=1, keepdim=True) * SPREAD_OF_DEVIATION
        return cls(centre.view(-1, 1, 1, 1), spread.clamp_min(SPREAD_FLOOR).view(-1, 1, 1, 1))

    def encode(self, depth: Tensor) -> Tensor:
        """Metres -> normalised log-depth."""
        return (depth.log() - self.centre) / self.spread

    def convert(self, values: np.ndarray, other: LogNormalisation) -> np.ndarray:
        """Normalised log-depth of another image's scale, brought to this one's."""
        shift = float(other.centre) - float(self.centre)
        return (values * float(other.spread) + shift) / float(self.spread)

    def relative_in_place(self, differences: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Differences of normalised log-depth -> of natural log-depth: 0.01 is about 1 % of the depth."""
        differences *= float(self.spread)
        return differences

    @property
    def floor(self) -> float:
        """A step of normalised log-depth that is too small to matter."""
        return INVISIBLE_STEP / float(self.spread)

    def decode_in_place(self, normalised: np.ndarray) -> np.ndarray:
        """(H, W) normalised log-depth of one image -> metres, without a second full-size array or infinities."""
        normalised *= float(self.spread)
        normalised += float(self.centre)
        np.clip(normalised, -80, 80, out=normalised)
        return np.exp(normalised, out=normalised)


class PlainMetres(NamedTuple):
    """The authors' space: nothing is changed on the way in."""

    median: float

    @classmethod
    def of(cls, depth: Tensor) -> PlainMetres:
        """Of (N, 1, h, w) metres."""
        return cls(float(depth.median()))

    def encode(self, depth: Tensor) -> Tensor:
        """Metres -> metres."""
        return depth

    def convert(self, values: np.ndarray, other: PlainMetres) -> np.ndarray:
        """Metres are metres."""
        return values

    def relative_in_place(self, differences: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Differences in metres -> as a share of (H, W) depth in metres."""
        differences /= depth
        return differences

    @property
    def floor(self) -> float:
        """A step in metres that is too small to matter."""
        return INVISIBLE_STEP * self.median

    def decode_in_place(self, depth: np.ndarray) -> np.ndarray:
        """(H, W) metres, never below the authors' smallest depth."""
        return np.maximum(depth, MIN_METRES, out=depth)
