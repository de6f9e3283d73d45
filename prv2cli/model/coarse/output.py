"""Coarse branches: networks that look once at the down-sampled photograph. All give a CoarseOutput."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class CoarseOutput(NamedTuple):
    """What a coarse branch hands to the refiner.

    Attributes:
        depth: (B, 1, h, w) metres.
        features: maps of levels 0 (high resolution) to the lowest; each (B, C_k, h_k, w_k) over the whole image.
    """

    depth: Tensor
    features: list[Tensor]
