"""Depth Anything V2, metric (Yang et al. 2024, arXiv 2406.09414): DINOv2 with a DPT head, on timm's ViT.

    photograph ─ resized ─ RGB ─ DINOv2, four intermediate layers ─ read ─ rescale to strides 3.5, 7, 14, 28 ─┐
                             ┌───────────────────────────────── project ──────────────────────────────────────┘
                             └─ fusion blocks, from the lowest level up ─ reduce ─ at the input's size ─ depth

The features handed to the refiner are PatchRefiner V2's choice: the lowest projected level, the four fused
levels and the reduced map at the input's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import Dav2Config
from prv2cli.model.layers import conv3x3, resize
from prv2cli.model.timm_pyramid import import_timm

PATCH = 14  # input sides must be multiples of this
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# DINOv2 enlarges its grid of positions by (n + 0.1) / 37 instead of to n: the weights were trained with that.
_POSITION_OFFSET = 0.1


class Dav2Size(NamedTuple):
    """One published size: timm's ViT, its channels, the blocks read; the DPT head's width and levels."""

    vit: str
    tokens: int
    taps: tuple[int, int, int, int]
    width: int
    channels: tuple[int, int, int, int]


SIZES = {
    "vits": Dav2Size("vit_small_patch14_dinov2", 384, (2, 5, 8, 11), 64, (48, 96, 192, 384)),
    "vitb": Dav2Size("vit_base_patch14_dinov2", 768, (2, 5, 8, 11), 128, (96, 192, 384, 768)),
    "vitl": Dav2Size("vit_large_patch14_dinov2", 1024, (4, 11, 17, 23), 256, (256, 512, 1024, 1024)),
}


def resize_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """The learnt positional embedding at another grid.

    Args:
        positions: (1, 1 + n * n, C), the class token's first.
        rows, columns: of the wanted grid of patches.

    Returns:
        (1, 1 + rows * columns, C), bicubic, by DINOv2's scale factor (not by size: the two differ).
    """
    side = math.isqrt(positions.shape[1] - 1)
    if rows == columns == side:
        return positions
    grid = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    scale = ((rows + _POSITION_OFFSET) / side, (columns + _POSITION_OFFSET) / side)
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic").to(positions.dtype)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class ResidualUnit(nn.Module):
    """x + Conv(ReLU(Conv(ReLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class DPTBlock(nn.Module):
    """Add the refined skip, refine, project, up-sample. The lowest block has no previous map to add to."""

    def __init__(self, channels: int, *, lowest: bool) -> None:
        super().__init__()
        self.skip_unit = None if lowest else ResidualUnit(channels)
        self.unit = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, skip: Tensor, previous: Tensor | None, size: Sequence[int]) -> Tensor:
        if self.skip_unit is not None and previous is not None:
            skip = previous + self.skip_unit(skip)
        # The authors project after up-sampling; the two commute and the small map is cheaper.
        return resize(self.project(self.unit(skip)), size, True)


class DPTHead(nn.Module):
    """Four token maps -> depth in 0..1 and six feature maps, high resolution first."""

    def __init__(self, tokens: int, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.read = nn.ModuleList(nn.Conv2d(tokens, c, 1) for c in channels)
        self.rescale = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, 4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, 2),
                nn.Identity(),
                conv3x3(channels[3], channels[3], stride=2),
            ]
        )
        self.levels = nn.ModuleList(conv3x3(c, width, bias=False) for c in channels)
        self.blocks = nn.ModuleList(DPTBlock(width, lowest=k == 3) for k in range(4))
        self.reduce = conv3x3(width, width // 2)
        self.to_depth = nn.Sequential(conv3x3(width // 2, 32), nn.ReLU(), nn.Conv2d(32, 1, 1), nn.Sigmoid())

    def forward(self, tokens: Sequence[Tensor], size: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Four (B, C, rows, columns) maps -> (B, 1, *size) and features."""
        levels = [
            project(rescale(read(x)))
            for x, read, rescale, project in zip(tokens, self.read, self.rescale, self.levels, strict=True)
        ]
        height, width = levels[0].shape[-2:]
        sizes = [(2 * height, 2 * width), *(level.shape[-2:] for level in levels[:-1])]
        features = [levels[-1]]
        previous: Tensor | None = None
        for k in (3, 2, 1, 0):
            previous = self.blocks[k](levels[k], previous, sizes[k])
            features.append(previous)
        features.append(resize(self.reduce(features[-1]), size, True))
        return self.to_depth(features[-1]), features[::-1]


class Dav2Coarse(nn.Module):
    """(B, 3, h, w) RGB in 0..1, h and w multiples of 14 -> CoarseOutput in metres, six feature maps."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Dav2Config) -> None:
        super().__init__()
        self.config = config
        self.size = SIZES[config.encoder]
        self.vit = import_timm().create_model(self.size.vit, pretrained=False, num_classes=0)
        self.head = DPTHead(self.size.tokens, self.size.width, self.size.channels)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the six feature maps, high resolution first."""
        return (self.size.width // 2, *(self.size.width for _ in range(5)))

    def forward(self, rgb: Tensor) -> CoarseOutput:
        rows, columns = rgb.shape[-2] // PATCH, rgb.shape[-1] // PATCH
        maps = [
            tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns)) for tokens in self.read_tokens(rgb)
        ]
        depth, features = self.head(maps, rgb.shape[-2:])
        return CoarseOutput(depth * self.config.max_depth, features)

    def read_tokens(self, rgb: Tensor) -> list[Tensor]:
        """The four intermediate layers after the final norm: (B, 1 + patches, C), the class token first."""
        if rgb.shape[-2] % PATCH or rgb.shape[-1] % PATCH:
            raise ValueError(f"sides must be multiples of {PATCH}, not {rgb.shape[-2]} x {rgb.shape[-1]}")
        x = self.vit.patch_embed.proj((rgb - self.mean) / self.std)
        positions = resize_positions(self.vit.pos_embed, *x.shape[-2:])
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.vit.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + positions
        tokens = []
        for index, block in enumerate(self.vit.blocks):
            x = block(x)
            if index in self.size.taps:
                tokens.append(self.vit.norm(x))
        return tokens
