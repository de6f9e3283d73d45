"""The refiner: light encoder, C2F, F2C and head over tiles of a photograph (PRV2 section 3, docs/method.md 2).

encode_image     once per photograph: guidance features, where the coarse network gives none
crop             per batch of tiles:  the guidance of each
refine_cropped   per batch of tiles:  encode, C2F, F2C, head, residual on the coarse depth
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.model.config import RefinerConfig
from prv2cli.model.depth_space import NETWORK_LIMIT
from prv2cli.model.layers import crop_to_boxes, positive_part
from prv2cli.model.refiner.c2f import build_c2f
from prv2cli.model.refiner.encoder import LightEncoder
from prv2cli.model.refiner.f2c import F2C
from prv2cli.model.refiner.guide import GuideEncoder
from prv2cli.model.refiner.heads import build_head
from prv2cli.model.refiner.surfaces import LocalFrame, nearest_and_farthest

SURFACE_WINDOW = 21  # pixels of the guide
CHARACTER_CHANNELS = 2  # sharpness, noise


class Residual(NamedTuple):
    """A tile batch's residual at full resolution (B, 1, H, W) and C2F's auxiliary depth at level 0 (B, 1, h, w)."""

    residual: Tensor
    auxiliary_depth: Tensor


class PatchRefiner(nn.Module):
    """A refiner for any timm encoder and any coarse branch. Knows no files, no losses, no tilings.

    Depth goes in and comes out in the space that `config.depth_space` names: metres (the authors'), or normalised
    log-depth (model/depth_space.py).
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        coarse_channels = config.coarse.channels
        stride = config.encoder.space_to_depth
        known = 1 + CHARACTER_CHANNELS if config.coarse.character else 1
        self.guide = GuideEncoder(coarse_channels, known) if config.coarse.kind == "given" else None
        self.local = config.head.kind == "two-surface"
        self.encoder = LightEncoder(config.encoder, depth_channels=3 if self.local else 1)
        self.c2f = build_c2f(
            config.c2f,
            self.encoder.channels,
            coarse_channels,
            self.encoder.pixel_channels,
            align_corners=config.align_corners,
        )
        self.f2c = F2C(config.f2c, coarse_channels, config.c2f.widths, align_corners=config.align_corners)
        self.head = build_head(
            config.head, self.f2c.channels, stride, self.encoder.pixel_channels // stride**2
        )

    def encode_image(self, rgb: Tensor, depth: Tensor, character: Tensor | None = None) -> list[Tensor]:
        """Guidance features of whole images, once per image.

        Args:
            rgb: (N, 3, g, g') the down-sampled photograph, 0..1.
            depth: (N, 1, g, g') normalised depth of the coarse map at the same size.
            character: (N, 2, g, g') how sharp and how noisy the coarse map is, with `coarse.character`.

        Returns:
            Feature maps of levels 0.., each (N, C_k, g / 2^k, g' / 2^k); for a two-surface head one more map
            (N, 2, g, g'): the nearest and farthest coarse surface around each pixel.
        """
        if self.guide is None:
            raise ValueError(
                "this refiner takes the features of its own coarse network (coarse.kind: external)"
            )
        seen = depth.clamp(-NETWORK_LIMIT, NETWORK_LIMIT)
        features = self.guide(rgb, seen if character is None else torch.cat([seen, character], dim=1))
        return [*features, nearest_and_farthest(seen, SURFACE_WINDOW)] if self.local else features

    def refine_cropped(
        self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor], steeper: float = 1.0
    ) -> Tensor:
        """Refined depth of a batch of tiles.

        Args:
            rgb: (B, 3, H, W) in 0..1; H and W multiples of `config.tile_multiple`.
            depth: (B, 1, H, W) coarse depth of the tiles.
            features: guidance of each tile (from `crop`).
            steeper: see TwoSurfaceHead.

        Returns:
            (B, 1, H, W) in the space of `depth`.
        """
        residual = self.residual(rgb, depth, features, steeper).residual
        if self.config.depth_space == "metres":
            return positive_part(depth + residual)
        return depth + residual

    def residual(
        self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor], steeper: float = 1.0
    ) -> Residual:
        """What is added to the coarse depth, and C2F's own idea of it; features cropped to each tile."""
        seen = depth if self.config.depth_space == "metres" else depth.clamp(-NETWORK_LIMIT, NETWORK_LIMIT)
        if not self.local:
            fused, auxiliary = self._fuse(rgb, seen, seen, features)[:2]
            return Residual(self.head(fused).to(depth.dtype), auxiliary)
        *features, surfaces = features
        frame = LocalFrame.of(seen, surfaces)
        fused, auxiliary, tile = self._fuse(
            rgb, torch.cat([seen, frame.channels()], dim=1), frame.fraction, features
        )
        return Residual(self.head(fused, tile, frame, steeper).to(depth.dtype), auxiliary)

    def _fuse(
        self, rgb: Tensor, condition: Tensor, level_depth: Tensor, features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encoder, C2F and F2C: the decoded map and auxiliary depth at level 0, the normalised tile (B, .., H, W)."""
        tile = self.encoder.tile(rgb, condition)
        pixels = self.encoder.pixels(tile)
        c2f = self.c2f(self.encoder(pixels), features, pixels)
        stride = self.config.encoder.space_to_depth
        if stride > 1:
            level_depth = F.avg_pool2d(level_depth, stride)
        depths = torch.cat([level_depth, c2f.auxiliary_depth.to(level_depth.dtype)], dim=1)
        depths = depths.contiguous(memory_format=torch.channels_last)
        fused = self.f2c(features, c2f.features, depths)
        return fused, c2f.auxiliary_depth, tile

    def crop(
        self, features: Sequence[Tensor], boxes: Tensor, image_index: Tensor, tile: Sequence[int]
    ) -> list[Tensor]:
        """Cut the guidance of whole images to tiles.

        Args:
            features: guidance of N whole images (from encode_image, or a coarse network's own).
            boxes: (B, 4) where the tiles lie: x0, y0, x1, y1 as fractions of their image.
            image_index: (B,) which image each tile belongs to.
            tile: height and width of the tiles.
        """
        # Joined with channels_last maps later on; a mixture of both layouts is slow to join.
        return [
            crop_to_boxes(feature, boxes, image_index, size).contiguous(memory_format=torch.channels_last)
            for feature, size in zip(features, self._crop_sizes(features, tile), strict=True)
        ]

    def _crop_sizes(self, features: Sequence[Tensor], tile: Sequence[int]) -> list[tuple[int, int]]:
        """The sizes at which guidance is cropped: each level's own (ours), or each whole map's (the authors')."""
        if self.config.coarse.kind == "external":
            return [(f.shape[-2], f.shape[-1]) for f in features]
        stride = self.config.encoder.space_to_depth
        levels = range(len(features) - (1 if self.local else 0))
        sizes = [(tile[0] // (stride * 2**k), tile[1] // (stride * 2**k)) for k in levels]
        return sizes + [sizes[0]] * (len(features) - len(sizes))
