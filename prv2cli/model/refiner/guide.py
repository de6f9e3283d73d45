"""`given`: guidance for the refiner when the coarse depth comes from anywhere (a file, any other network).

A small encoder over the down-sampled photograph and the normalised coarse log-depth stands in for a depth network's
own decoder features. It runs once per image, at low resolution, so its cost does not grow with the tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prv2cli.model.layers import conv3x3


class GuideLevel(nn.Module):
    """Conv (stride 1 or 2) and one residual convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            conv3x3(inputs, outputs, bias=False, stride=stride), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.residual = nn.Sequential(conv3x3(outputs, outputs, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return torch.relu(x + self.residual(x))


class GuideEncoder(nn.Module):
    """(B, 3, g, g') RGB in 0..1 and (B, D, g, g') normalised depth and what else is known of it -> levels 0.. at
    strides 1, 2, 4, ..."""

    def __init__(self, channels: Sequence[int], depth_channels: int = 1) -> None:
        super().__init__()
        inputs = [3 + depth_channels, *channels[:-1]]
        self.levels = nn.ModuleList(
            GuideLevel(i, o, 1 if k == 0 else 2)
            for k, (i, o) in enumerate(zip(inputs, channels, strict=True))
        )

    def forward(self, rgb: Tensor, depth: Tensor) -> list[Tensor]:
        x = torch.cat([(rgb - 0.5) * 4, depth], dim=1)
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features
