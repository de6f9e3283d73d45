"""`lite`: a small monocular depth network, so that the whole method runs with nothing downloaded.

A timm pyramid and a light top-down decoder; weights/lite.md says what it has seen. Its depth is a stand-in where no
strong coarse model can be had, not a rival to one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import LiteConfig
from prv2cli.model.layers import conv3x3, resize
from prv2cli.model.timm_pyramid import create_pyramid

INPUT_GAIN = 4.0  # on RGB in 0..1 less 0.5


class _Merge(nn.Module):
    """Up-sample the lower map, add the skip, mix."""

    def __init__(self, below: int, skip: int, width: int) -> None:
        super().__init__()
        self.lower = nn.Conv2d(below, width, 1)
        self.skip = nn.Conv2d(skip, width, 1, bias=False)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv3x3(width, width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv3x3(width, width),
        )

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        x = resize(self.lower(below), skip.shape[-2:], False) + self.skip(skip)
        return x + self.mix(x)


class _Doubt(nn.Module):
    """The lowest level of the encoder, (B, C, h, w) -> (B,): log of the error that its scale may have."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, 64)
        self.out = nn.Linear(64, 1)

    def forward(self, lowest: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(lowest.mean((2, 3)))))[:, 0].clamp(-4, 2)


class LiteCoarse(nn.Module):
    """(B, 3, h, w) RGB in 0..1, h and w multiples of 32 -> CoarseOutput: depth (B, 1, h, w) and six feature maps."""

    ENCODER = "network"  # the part with a rate of its own

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.config = config
        self.network = create_pyramid(config.encoder, "encoder")
        channels = self.network.feature_info.channels()
        widths = [config.width // 2, config.width, config.width, 2 * config.width, 2 * config.width]
        self.channels = (widths[0], *widths)  # of the six feature maps, high resolution first
        self.lowest = nn.Conv2d(2 * channels[-1], widths[-1], 1)
        upward = widths[::-1]
        self.merges = nn.ModuleList(
            _Merge(below, skip, width)
            for below, skip, width in zip(upward[:-1], channels[-2::-1], upward[1:], strict=True)
        )
        self.to_depth = conv3x3(widths[0], 1)
        self.to_doubt = _Doubt(channels[-1]) if config.doubt else None

    def forward(self, rgb: Tensor) -> CoarseOutput:
        encoded = list(self.network((rgb - 0.5) * INPUT_GAIN))
        # The scale of a scene is a global property: the pooled image joins every position of the lowest level.
        pooled = encoded[-1].mean((2, 3), keepdim=True).expand_as(encoded[-1])
        x = self.lowest(torch.cat([encoded[-1], pooled], dim=1))
        features = [x]
        for merge, skip in zip(self.merges, encoded[-2::-1], strict=True):
            x = merge(x, skip)
            features.append(x)
        log_depth = resize(self._to_log_depth(x), rgb.shape[-2:], False)
        features.append(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        doubt = None if self.to_doubt is None else self.to_doubt(encoded[-1])
        return CoarseOutput(log_depth.exp(), features[::-1], log_doubt=doubt)

    def _to_log_depth(self, x: Tensor) -> Tensor:
        low, high = math.log(self.config.min_depth), math.log(self.config.max_depth)
        return low + (high - low) * torch.sigmoid(self.to_depth(x).float())
