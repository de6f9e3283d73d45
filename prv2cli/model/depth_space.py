"""The space a refiner works in.

Normalised log-depth (ours): one centre and one spread per image, so that the refiner knows no unit. Scaling the coarse
map by k moves the centre by log k and nothing else: the result scales by k. Affine: the same for maps without a unit
and without a zero. Metres: the authors'.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SPREAD_FLOOR = 1e-3  # relative depth; a flat map may change by at most a few times this
SPREAD_OF_DEVIATION = 1.5
NETWORK_LIMIT = 6.0  # sky beside a hand is 400:1; what the network sees is clamped, what it corrects is not
INVISIBLE_STEP = 1e-6  # of the depth, from pixel to pixel: a tenth of what a 16-bit file resolves at its best
MIN_METRES = 1e-3
_SAMPLES = 1 << 18
_TINY = 1e-30
AFFINE_FLOOR = 1e-6  # of a map's largest value: less is rounding
AFFINE_CONTRAST = 0.4  # log-depth of one spread, about: what photographs have on the average


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

    @property
    def contrast(self) -> float:
        """Log-depth of one unit of normalised log-depth."""
        return float(self.spread)

    def decode_in_place(self, normalised: np.ndarray) -> np.ndarray:
        """(H, W) normalised log-depth of one image -> metres, without a second full-size array or infinities."""
        normalised *= float(self.spread)
        normalised += float(self.centre)
        np.clip(normalised, -80, 80, out=normalised)
        return np.exp(normalised, out=normalised)


class Affine(NamedTuple):
    """Of maps that have neither a unit nor a zero: centre and spread, each (N, 1, 1, 1), and which way is far.

    Relative inverse depth, mostly, whose 0 is some far place, so that log has no meaning near it. Adding a constant to
    the map moves the centre and nothing else: the result moves by it; scaling the map scales the result. As with
    log-depth, farther is larger.
    """

    centre: Tensor
    spread: Tensor
    sign: int  # -1: of inverse depth, 1: of depth

    @classmethod
    def of(cls, values: Tensor, sign: int = -1) -> Affine:
        """Median, and 1.5 mean absolute deviations or a tenth of the range, of (N, 1, h, w), any finite values."""
        sample = values.flatten(1)
        sample = sample[:, :: max(1, sample.shape[1] // _SAMPLES)]
        centre = sample.median(dim=1, keepdim=True).values
        spread = (sample - centre).abs().mean(dim=1, keepdim=True) * SPREAD_OF_DEVIATION
        # A hand before a far view: hardly a deviation, and all of it in a few pixels.
        spread = torch.maximum(spread, (sample.amax(1, keepdim=True) - sample.amin(1, keepdim=True)) / 10)
        floor = AFFINE_FLOOR * sample.abs().amax(1, keepdim=True).clamp_min(_TINY)
        return cls(centre.view(-1, 1, 1, 1), torch.maximum(spread, floor).view(-1, 1, 1, 1), sign)

    def encode(self, values: Tensor) -> Tensor:
        """The map's values -> normalised, farther is larger."""
        return (values - self.centre) * (self.sign / self.spread)

    def convert(self, values: np.ndarray, other: Affine) -> np.ndarray:
        """Normalised values of another image's scale, brought to this one's."""
        shift = self.sign * (float(other.centre) - float(self.centre))
        return (values * float(other.spread) + shift) / float(self.spread)

    def relative_in_place(self, differences: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Differences of normalised values -> of log-depth, about: the map has no zero to divide by."""
        differences *= AFFINE_CONTRAST
        return differences

    @property
    def floor(self) -> float:
        """A step of normalised values that is too small to matter."""
        return INVISIBLE_STEP * max(1.0, abs(float(self.centre)) / float(self.spread))

    @property
    def contrast(self) -> float:
        """Log-depth of one unit of normalised values, about."""
        return AFFINE_CONTRAST

    def decode_in_place(self, normalised: np.ndarray) -> np.ndarray:
        """(H, W) normalised values -> the map's own."""
        normalised *= self.sign * float(self.spread)
        normalised += float(self.centre)
        return normalised


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


Scale = LogNormalisation | Affine | PlainMetres
