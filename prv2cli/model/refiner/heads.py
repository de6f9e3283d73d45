"""Heads: from the fused features at level 0 to a residual of the tile's depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.errors import ConfigError
from prv2cli.model.config import HeadConfig
from prv2cli.model.layers import Gelu, conv3x3, gelu
from prv2cli.model.refiner.surfaces import LocalFrame
from prv2cli.model.shuffles import pixel_shuffle, pixel_unshuffle

SHIFT_LIMIT = 1.0  # of the local extent: how far the candidate surfaces may move
MASK_SLOPE = 10.0


class ResidualHead(nn.Module):
    """The authors' head: one Conv3x3 without bias. Level 0 must be at full resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_residual = conv3x3(channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.to_residual(features)


class TwoSurfaceHead(nn.Module):
    """Choose between the near and the far surface around each pixel, and correct the two, at full resolution.

    A plain residual draws ramps and leaves points flying between surfaces; a steep choice between two smooth surfaces
    draws a step. The outputs are a shift of the fraction's logit and a shift of either surface, all in the local frame
    (surfaces.py). Most work is done at stride 2: the decoded map is brought there by sub-pixel shuffles and meets the
    tile's own pixels.

    Zero output leaves the coarse depth exactly as it is.
    """

    def __init__(self, channels: int, stride: int, tile_channels: int, config: HeadConfig) -> None:
        super().__init__()
        width, unshuffled = config.width, min(stride, 2) ** 2
        self.stride = stride
        self.enlarge = conv3x3(channels, (4 if stride == 4 else 1) * (width // 2))
        self.detail = nn.Sequential(
            conv3x3(width // 2 + tile_channels * unshuffled, width),
            Gelu(),
            conv3x3(width, width),
            Gelu(),
        )
        self.along = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation) for dilation in config.dilations
        )
        for layer in self.along:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.to_surfaces = conv3x3(width, 3 * unshuffled)
        nn.init.normal_(self.to_surfaces.weight, std=2e-3)
        nn.init.zeros_(self.to_surfaces.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, tile: Tensor, frame: LocalFrame, steeper: float = 1.0) -> Tensor:
        """features (B, C, H/s, W/s), tile (B, tile_channels, H, W), its frame -> residual (B, 1, H, W).

        steeper: how much steeper than in training the choice is.
        """
        x = self.enlarge(features)
        if self.stride == 4:
            x = F.pixel_shuffle(x, 2)
        pixels = pixel_unshuffle(tile, 2) if self.stride > 1 else tile
        x = self.detail(torch.cat([x, pixels], dim=1))
        for layer in self.along:
            x = layer(gelu(x)).add_(x)
        out = self.to_surfaces(x).float()
        if self.stride > 1:
            out = pixel_shuffle(out, 2)
        chosen = torch.sigmoid(torch.logit(frame.fraction) + MASK_SLOPE * steeper * out[:, :1])
        near, far = (SHIFT_LIMIT * torch.tanh(2 * out[:, 1:])).split(1, dim=1)
        return frame.extent * (torch.lerp(near, far, chosen) + chosen - frame.fraction)


def build_head(config: HeadConfig, channels: int, stride: int, tile_channels: int) -> nn.Module:
    """The head named by the configuration."""
    if config.kind == "residual":
        if stride != 1:
            raise ConfigError("head.kind: residual needs encoder.space_to_depth: 1")
        return ResidualHead(channels)
    return TwoSurfaceHead(channels, stride, tile_channels, config)
