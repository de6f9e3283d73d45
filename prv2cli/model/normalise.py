"""Normalised log-depth: one centre and one spread per image, so that the refiner knows no unit.

Scaling the coarse map by k moves the centre by log k and nothing else: the result scales by k.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SPREAD_FLOOR = 1e-3  # relative depth; a flat map may change by at most a few times this
SPREAD_OF_DEVIATION = 1.5
NETWORK_LIMIT = 6.0  # sky beside a hand is 400:1; what the network sees is clamped, what it corrects is not
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

    def decode(self, normalised: Tensor) -> Tensor:
        """Normalised log-depth -> metres."""
        return torch.exp(normalised * self.spread + self.centre)
