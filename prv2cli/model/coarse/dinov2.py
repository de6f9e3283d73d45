"""DINOv2 as depth networks read it: timm's ViT, its learnt positions at any grid, its tokens at chosen blocks."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.model.timm_pyramid import import_timm

PATCH = 14  # input sides must be multiples of this
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# DINOv2 enlarges its grid of positions by (n + 0.1) / 37 instead of to n: the weights were trained with that.
_POSITION_OFFSET = 0.1


class VitSize(NamedTuple):
    """One size of the encoder: timm's name, channels of its tokens, number of blocks."""

    name: str
    tokens: int
    blocks: int


VITS = {
    "vits": VitSize("vit_small_patch14_dinov2", 384, 12),
    "vitb": VitSize("vit_base_patch14_dinov2", 768, 12),
    "vitl": VitSize("vit_large_patch14_dinov2", 1024, 24),
}


def create_vit(size: str) -> Any:
    """timm's DINOv2 of a size in VITS, with fresh weights."""
    return import_timm().create_model(VITS[size].name, pretrained=False, num_classes=0)


def imagenet_statistics() -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that DINOv2's input is normalised with: (1, 3, 1, 1) each."""
    return torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)


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


def read_tokens(vit: Any, image: Tensor, taps: Collection[int]) -> list[Tensor]:
    """What the blocks numbered `taps` give, after the final norm.

    Args:
        vit: as create_vit makes it.
        image: (B, 3, h, w), normalised; both sides multiples of PATCH.

    Returns:
        For each tap (B, 1 + patches, C), the class token first.
    """
    if image.shape[-2] % PATCH or image.shape[-1] % PATCH:
        raise ValueError(f"sides must be multiples of {PATCH}, not {image.shape[-2]} x {image.shape[-1]}")
    x = vit.patch_embed.proj(image)
    positions = resize_positions(vit.pos_embed, *x.shape[-2:])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([vit.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + positions
    tokens = []
    for index, block in enumerate(vit.blocks):
        x = block(x)
        if index in taps:
            tokens.append(vit.norm(x))
    return tokens


def patch_map(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """(B, 1 + rows * columns, C), the class token first -> (B, C, rows, columns)."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))
