"""What prv2 is measured against, as networks for its own tile loop: PatchRefiner, and its second version as published.

    tile ─ brought to the process size ─ PatchRefiner:  the coarse network again, fused with the cropped coarse features
                                         its 2nd version: light encoder, C2F, F2C in the authors' widths
         ─ brought back ─> the tile's depth

Random weights of the published shapes: nothing can be seen in what they give.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prv2cli.bench.networks import Candidate, Size
from prv2cli.model.build import build_model
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import C2FConfig, CoarseFeaturesConfig, F2CConfig, RefinerConfig
from prv2cli.model.layers import crop_to_boxes, resize
from prv2cli.model.refiner.f2c import F2C
from prv2cli.model.refiner.heads import ResidualHead
from prv2cli.model.refiner.patchrefiner import PatchRefiner

# PatchRefiner's fusion network is F2C with other widths (its published configuration for UnrealStereo4K).
FUSION = F2CConfig(widths=(32, 256, 256, 256, 256, 256), decoder_widths=(32, 256, 256, 256, 256))


class AtProcessSize:
    """A tile network (tiles.loop.TileNetwork) that works at one size, whatever the tiles are.

    It is guided by a coarse network's own features.
    """

    def __init__(self, process: Size) -> None:
        self.process = process

    def encode_image(self, rgb: Tensor, depth: Tensor, character: Tensor | None = None) -> list[Tensor]:
        """There is no guidance but the coarse network's own features."""
        raise NotImplementedError("the features are those of the coarse network")

    def crop(
        self, features: Sequence[Tensor], boxes: Tensor, image_index: Tensor, tile: Sequence[int]
    ) -> list[Tensor]:
        """The coarse features of tiles, each map at its own whole size, as the authors crop them."""
        return [crop_to_boxes(f, boxes, image_index, f.shape[-2:]).contiguous() for f in features]

    def refine_cropped(
        self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor], steeper: float = 1.0
    ) -> Tensor:
        """(B, 3, H, W) pixels and (B, 1, H, W) coarse depth -> (B, 1, H, W) refined depth."""
        small, coarse = (resize(x, self.process, True) for x in (rgb, depth))
        return resize(self.refine(small, coarse, features), rgb.shape[-2:], True).clamp_min(0)

    def refine(self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor]) -> Tensor:
        """The same at the process size."""
        raise NotImplementedError


class HeavyRefiner(AtProcessSize):
    """PatchRefiner (arXiv 2406.06679): every tile goes through the coarse network itself.

    Both maps and both sets of features are fused to a residual of the coarse depth.
    """

    def __init__(self, candidate: Candidate, device: torch.device, fusion: F2CConfig = FUSION) -> None:
        super().__init__(candidate.process)
        self._network = candidate.module
        fused = F2C(fusion, candidate.channels, candidate.channels, align_corners=True)
        self._fusion, self._head = (
            module.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for module in (fused, ResidualHead(fused.channels))
        )

    def refine(self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor]) -> Tensor:
        """See AtProcessSize."""
        fine: CoarseOutput = self._network(rgb)
        size = fine.features[0].shape[-2:]
        coarse = resize(depth, size, True)
        depths = torch.cat([coarse, resize(fine.depth, size, True)], dim=1)
        return coarse + self._head(self._fusion(features, fine.features, depths))


class AuthorsRefiner(AtProcessSize):
    """PatchRefiner V2 as its authors publish it: mobilenetv4-small, 256 channels in C2F, up to 512 in F2C."""

    def __init__(
        self,
        channels: Sequence[int],
        process: Size,
        device: torch.device,
        config: RefinerConfig | None = None,
    ) -> None:
        super().__init__(process)
        module: nn.Module = build_model(config or authors_config(channels)).eval().requires_grad_(False)
        placed = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert isinstance(placed, PatchRefiner)
        self._network = placed

    def refine(self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor]) -> Tensor:
        """See AtProcessSize."""
        return self._network.refine_cropped(rgb, depth, features)


def authors_config(channels: Sequence[int]) -> RefinerConfig:
    """The settings of configs/paper with the mobilenetv4 encoder, behind a network with these features."""
    return RefinerConfig(
        depth_space="metres",
        align_corners=True,
        coarse=CoarseFeaturesConfig(kind="external", channels=tuple(channels)),
        c2f=C2FConfig(widths=(channels[0], 256, 256, 256, 256, 256)),
    )
