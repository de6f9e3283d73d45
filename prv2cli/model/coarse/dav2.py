"""Depth Anything V2, metric (Yang et al. 2024, arXiv 2406.09414): DINOv2 with a DPT head, on timm's ViT.

    photograph ─ resized ─ RGB ─ DINOv2, four intermediate layers ─ read ─ rescale to strides 3.5, 7, 14, 28 ─┐
                             ┌───────────────────────────────── project ──────────────────────────────────────┘
                             └─ fusion blocks, from the lowest level up ─ reduce ─ at the input's size ─ depth

The features handed to the refiner are PatchRefiner V2's choice: the lowest projected level, the four fused
levels and the reduced map at the input's size.
"""

from __future__ import annotations

from torch import Tensor, nn

from prv2cli.model.coarse.dpt import DPTDecoder, DPTNetwork, DPTSize, to_one_channel
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import Dav2Config


class DPTHead(DPTDecoder):
    """The decoder, and a convolution from its reduced map to depth in 0..1."""

    def __init__(self, size: DPTSize) -> None:
        super().__init__(size)
        self.to_depth = nn.Sequential(*to_one_channel(size.width), nn.Sigmoid())


class Dav2Coarse(DPTNetwork):
    """(B, 3, h, w) RGB in 0..1, h and w multiples of 14 -> CoarseOutput in metres, six feature maps."""

    def __init__(self, config: Dav2Config) -> None:
        super().__init__(config.encoder)
        self.config = config
        self.head = DPTHead(self.size)

    def forward(self, rgb: Tensor) -> CoarseOutput:
        features = self.head(self.read_maps(rgb), rgb.shape[-2:])
        return CoarseOutput(self.head.to_depth(features[0]) * self.config.max_depth, features)
