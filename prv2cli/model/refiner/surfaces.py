"""The near and far surface around each pixel of a coarse map: the frame in which a depth edge is sharpened.

A coarse map shows an edge as a ramp between two surfaces. Measured in the range between them, every ramp looks alike,
whatever its depth and contrast; where there is one surface only, the range is (nearly) zero and nothing can change.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.resampling.extremes import largest_around, smallest_around

RANGE_FLOOR = (
    0.02  # of the image's spread of log-depth: what a part that the coarse map lost may still differ by
)
_FRACTION_LIMIT = 0.02


def nearest_and_farthest(depth: Tensor, window: int) -> Tensor:
    """(N, 1, g, g') normalised log-depth -> (N, 2, g, g'): minimum and maximum in a window (odd) around each pixel."""
    reach = window // 2
    return torch.cat([smallest_around(depth, reach), largest_around(depth, reach)], dim=1)


class LocalFrame(NamedTuple):
    """Depth in the frame of its surroundings; each (B, 1, H, W)."""

    extent: Tensor  # farthest - nearest + floor, in units of the image's spread
    fraction: Tensor  # where the depth lies between them, kept a little inside 0..1

    @classmethod
    def of(cls, depth: Tensor, surfaces: Tensor) -> LocalFrame:
        """depth (B, 1, H, W) normalised log-depth; surfaces (B, 2, h, w) of the tile, enlarged here."""
        # Of two channels, torch enlarges one after the other several times faster than both side by side.
        surfaces = surfaces.contiguous()
        surfaces = F.interpolate(surfaces, size=depth.shape[-2:], mode="bilinear", align_corners=False)
        extent = surfaces[:, 1:] - surfaces[:, :1] + RANGE_FLOOR
        fraction = (depth - surfaces[:, :1] + RANGE_FLOOR / 2) / extent
        return cls(extent, fraction.clamp(_FRACTION_LIMIT, 1 - _FRACTION_LIMIT))

    def channels(self) -> Tensor:
        """(B, 2, H, W) about -1..1: what the network sees of the frame."""
        return torch.cat([4 * (self.fraction - 0.5), 0.5 * torch.log(self.extent) + 0.5], dim=1)
