"""Heads: from the fused features at level 0 to a residual of the tile's depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.config import HeadConfig
from prv2cli.errors import ConfigError
from prv2cli.model.layers import conv3x3

RESIDUAL_LIMIT = 4.0  # in units of the image's spread of log-depth
MASK_SLOPE = 10.0


class ResidualHead(nn.Module):
    """The authors' head: one Conv3x3 without bias. Level 0 must be at full resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_residual = conv3x3(channels, 1, bias=False)

    def forward(self, features: Tensor, tile: Tensor) -> Tensor:
        return self.to_residual(features)


class TwoSurfaceHead(nn.Module):
    """Two candidate surfaces and a soft choice between them, at full resolution.

    A plain residual draws ramps and leaves points flying between near and far surfaces; a steep mask between
    two smooth surfaces draws a step. Most work is done at stride 2: the decoded map is brought there by
    sub-pixel shuffles and meets the tile's own pixels.

    Zero output leaves the coarse depth exactly as it is.
    """

    def __init__(self, channels: int, stride: int, config: HeadConfig) -> None:
        super().__init__()
        width = config.width
        self.stride = stride
        self.enlarge = conv3x3(channels, 4 * (width // 2)) if stride == 4 else conv3x3(channels, width // 2)
        self.detail = nn.Sequential(
            conv3x3(width // 2 + 4 * min(stride, 2) ** 2, width),
            nn.GELU(),
            conv3x3(width, width),
            nn.GELU(),
        )
        self.to_surfaces = conv3x3(width, 3 * min(stride, 2) ** 2)
        nn.init.normal_(self.to_surfaces.weight, std=2e-3)
        nn.init.zeros_(self.to_surfaces.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, tile: Tensor) -> Tensor:
        """features (B, C, H/s, W/s), tile (B, 4, H, W) normalised RGB and depth -> residual (B, 1, H, W)."""
        x = self.enlarge(features)
        if self.stride == 4:
            x = F.pixel_shuffle(x, 2)
        pixels = F.pixel_unshuffle(tile, 2) if self.stride > 1 else tile
        out = self.to_surfaces(self.detail(torch.cat([x, pixels], dim=1))).float()
        if self.stride > 1:
            out = F.pixel_shuffle(out, 2)
        surfaces = RESIDUAL_LIMIT * torch.tanh(out[:, :2] * (5 / RESIDUAL_LIMIT))
        mask = torch.sigmoid(MASK_SLOPE * out[:, 2:])
        return surfaces[:, :1] * mask + surfaces[:, 1:] * (1 - mask)


def build_head(config: HeadConfig, channels: int, stride: int) -> nn.Module:
    """The head named by the configuration."""
    if config.kind == "residual":
        if stride != 1:
            raise ConfigError("head.kind: residual needs encoder.space_to_depth: 1")
        return ResidualHead(channels)
    return TwoSurfaceHead(channels, stride, config)
