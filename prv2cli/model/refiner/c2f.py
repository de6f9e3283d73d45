"""C2F, the Coarse-to-Fine module: denoise the light encoder's features under the coarse branch's guidance.

PRV2 section 3.2. From the lowest resolution up, one fusion block per level:

    encoder level k ─ Conv3x3 ─ GDU ─┐
    level k+1's result ──────────────┴─(+)─ GDU ─ Conv1x1 ─ up-sample ─> level k-1
    coarse features c_k ────── guide both GDUs

The authors apply the 1x1 convolution after the up-sampling; the two commute and the small map is cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.model.config import C2FConfig
from prv2cli.model.layers import ChannelLayerNorm, conv3x3, resize


class C2FOutput(NamedTuple):
    """Denoised refiner features of levels 0, 1, ... and the auxiliary depth at level 0."""

    features: list[Tensor]
    auxiliary_depth: Tensor  # (B, 1, h, w), no activation


class GuidedDenoisingUnit(nn.Module):
    """GDU(x, c): y = x + Conv(ReLU(x)); gate = Conv1x1(ReLU(LN(Conv([y, c])))); y * sigmoid(gate).

    `guidance` selects the paper's ablations: "fused" returns the joined features themselves (no gate), "none"
    ignores the coarse features.
    """

    def __init__(self, channels: int, coarse_channels: int, guidance: str) -> None:
        super().__init__()
        self.guidance = guidance
        self.residual = conv3x3(channels, channels)
        if guidance != "none":
            self.join = conv3x3(channels + coarse_channels, channels)
            self.norm = ChannelLayerNorm(channels)
            self.gate = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, coarse: Tensor) -> Tensor:
        y = x + self.residual(F.relu(x))
        if self.guidance == "none":
            return y
        joined = self.norm(self.join(torch.cat([y, coarse], dim=1)))
        gate = self.gate(F.relu(joined, inplace=True))
        return y * torch.sigmoid(gate) if self.guidance == "gated" else gate


class FusionBlock(nn.Module):
    """One C2F level: z = previous + GDU(skip, c); z = GDU(z, c). The lowest level has no previous."""

    def __init__(self, channels: int, coarse_channels: int, guidance: str, *, lowest: bool) -> None:
        super().__init__()
        self.skip_unit = None if lowest else GuidedDenoisingUnit(channels, coarse_channels, guidance)
        self.unit = GuidedDenoisingUnit(channels, coarse_channels, guidance)

    def forward(self, skip: Tensor, coarse: Tensor, previous: Tensor | None) -> Tensor:
        if self.skip_unit is not None and previous is not None:
            skip = previous + self.skip_unit(skip, coarse)
        return self.unit(skip, coarse)


class C2F(nn.Module):
    """The module. Channel lists run from level 0 (high resolution) to the lowest level.

    Args:
        config: widths, guidance, which features are handed on, whether level 0 sees the tile's own pixels.
        encoder_channels: of encoder levels 1, 2, ...
        coarse_channels: of coarse levels 0, 1, ...
        pixel_channels: of the tile at level 0 (used with `config.pixel_level`).
    """

    def __init__(
        self,
        config: C2FConfig,
        encoder_channels: Sequence[int],
        coarse_channels: Sequence[int],
        pixel_channels: int,
        *,
        align_corners: bool,
    ) -> None:
        super().__init__()
        widths = config.widths
        self.taps = config.taps
        self.align_corners = align_corners
        self.pixel_level = config.pixel_level
        lowest = len(widths) - 1
        self.project = _projections(encoder_channels, widths[1:])
        self.blocks = nn.ModuleList(
            FusionBlock(widths[k], coarse_channels[k], config.guidance, lowest=k == lowest)
            for k in range(1, lowest + 1)
        )
        top_width = widths[0] if config.pixel_level else widths[1]
        self.to_upper = nn.ModuleList(
            nn.Conv2d(widths[k], widths[k - 1] if k > 1 else top_width, 1) for k in range(1, lowest + 1)
        )
        if config.pixel_level:
            self.pixel_project = conv3x3(pixel_channels, widths[0], bias=False)
            self.pixel_block = FusionBlock(widths[0], coarse_channels[0], config.guidance, lowest=False)
        else:
            self.reduce = conv3x3(widths[1], widths[1] // 2)
            self.expand = conv3x3(widths[1] // 2, widths[0])
            self.top_unit = GuidedDenoisingUnit(widths[0], coarse_channels[0], config.guidance)
            self.top_out = nn.Conv2d(widths[0], widths[0], 1)
        self.to_depth = nn.Conv2d(widths[0], 1, 1)

    def forward(self, encoder: Sequence[Tensor], coarse: Sequence[Tensor], pixels: Tensor) -> C2FOutput:
        """Encoder levels 1.., coarse levels 0.. (any size: resized here), the tile at level 0."""
        sizes = [pixels.shape[-2:], *(feature.shape[-2:] for feature in encoder)]
        guides = [
            resize(feature, size, self.align_corners) for feature, size in zip(coarse, sizes, strict=True)
        ]
        features: list[Tensor] = [pixels] * len(sizes)
        previous: Tensor | None = None
        for k in range(len(encoder), 0, -1):
            skip = self.project[k - 1](encoder[k - 1])
            if self.taps == "below":
                features[k] = skip if previous is None else previous
            out = self.blocks[k - 1](skip, guides[k], previous)
            if self.taps == "own":
                features[k] = out
            previous = resize(self.to_upper[k - 1](out), sizes[k - 1], self.align_corners)
        assert previous is not None
        features[0] = self._top_level(previous, guides[0], pixels)
        return C2FOutput(features, self.to_depth(features[0]))

    def _top_level(self, previous: Tensor, guide: Tensor, pixels: Tensor) -> Tensor:
        if self.pixel_level:
            return self.pixel_block(self.pixel_project(pixels), guide, previous)
        return self.top_out(self.top_unit(F.relu(self.expand(self.reduce(previous))), guide))


def _projections(encoder_channels: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    """Of each encoder level to the width that C2F, or F2C, takes it in."""
    return nn.ModuleList(
        conv3x3(channels, width, bias=False) for channels, width in zip(encoder_channels, widths, strict=True)
    )


class Projection(nn.Module):
    """What stands in C2F's place where it is switched off: each encoder level by itself, unguided and not denoised.

    Level 0, which no encoder level has, is the enlarged level 1; the auxiliary depth is read off it. Arguments as C2F.
    """

    def __init__(
        self,
        config: C2FConfig,
        encoder_channels: Sequence[int],
        pixel_channels: int,
        *,
        align_corners: bool,
    ) -> None:
        super().__init__()
        widths = config.widths
        self.align_corners = align_corners
        self.project = _projections(encoder_channels, widths[1:])
        self.to_upper = nn.Conv2d(widths[1], widths[0], 1)
        self.pixel_project = conv3x3(pixel_channels, widths[0], bias=False) if config.pixel_level else None
        self.to_depth = nn.Conv2d(widths[0], 1, 1)

    def forward(self, encoder: Sequence[Tensor], coarse: Sequence[Tensor], pixels: Tensor) -> C2FOutput:
        """As C2F's; the coarse features are not looked at."""
        features = [project(feature) for project, feature in zip(self.project, encoder, strict=True)]
        top = resize(self.to_upper(features[0]), pixels.shape[-2:], self.align_corners)
        if self.pixel_project is not None:
            top = top + self.pixel_project(pixels)
        return C2FOutput([top, *features], self.to_depth(top))


def build_c2f(
    config: C2FConfig,
    encoder_channels: Sequence[int],
    coarse_channels: Sequence[int],
    pixel_channels: int,
    *,
    align_corners: bool,
) -> C2F | Projection:
    """C2F, or the projection where it is switched off. Arguments as C2F."""
    if not config.enabled:
        return Projection(config, encoder_channels, pixel_channels, align_corners=align_corners)
    return C2F(config, encoder_channels, coarse_channels, pixel_channels, align_corners=align_corners)
