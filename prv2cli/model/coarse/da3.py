"""Depth Anything 3, monocular (Lin et al. 2025, arXiv 2511.10647): depth, not disparity, and where the sky is.

    photograph ─ resized ─ RGB ─ DINOv2, four intermediate layers ─ DPT decoder ─┬─ depth
                                                                                └─ sky

The metric network gives depth for a focal length of 300 pixels of its input; the other one depth up to scale and
offset. The features handed to the refiner are the decoder's, as of Depth Anything V2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from prv2cli.model.coarse.dpt import DPTDecoder, DPTNetwork, to_one_channel
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import Da3Config

CANONICAL_FOCAL = 300.0  # pixels of the network's input, at which its depth is in metres
SKY = 0.3  # what counts as sky; the head's values begin at 0 and have no upper end
_FEWEST = 10  # pixels: with no more of sky, or of anything else, the depth is left alone
_SKY_DEPTH = 0.99  # quantile of the rest
_FINAL_NORM_EPS = 1e-5  # the blocks have 1e-6


class Da3Output(NamedTuple):
    """depth: (B, 1, h, w), positive, as the head gives it. sky: (B, 1, h, w), 0 and up. features: see CoarseOutput."""

    depth: Tensor
    sky: Tensor
    features: list[Tensor]


class Da3Coarse(DPTNetwork):
    """(B, 3, h, w) RGB in 0..1, h and w multiples of 14 -> CoarseOutput, six feature maps.

    The depth is in units of the network's: see CANONICAL_FOCAL.
    """

    def __init__(self, config: Da3Config) -> None:
        super().__init__(config.encoder)
        self.config = config
        self.vit.norm.eps = _FINAL_NORM_EPS
        self.head = DPTDecoder(self.size)
        self.to_depth = nn.Sequential(*to_one_channel(self.size.width))
        self.to_sky = nn.Sequential(*to_one_channel(self.size.width))

    def forward(self, rgb: Tensor) -> CoarseOutput:
        """Each picture's sky is put behind the rest of that picture, and is not valid."""
        found = self.see(rgb)
        pairs = [fill_sky(d, s) for d, s in zip(found.depth, found.sky, strict=True)]
        depth, sky = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        return CoarseOutput(depth, found.features, ~sky)

    def see(self, rgb: Tensor) -> Da3Output:
        """The two heads, before the rule about the sky."""
        features = self.head(self.read_maps(rgb), rgb.shape[-2:])
        return Da3Output(self.to_depth(features[0]).exp(), self.to_sky(features[0]).relu(), features)


def fill_sky(depth: Tensor, sky: Tensor) -> tuple[Tensor, Tensor]:
    """Depth with one value in the sky, near the largest of the rest, and where that is.

    The authors take the quantile of 100,000 pixels drawn at random where there are more; here it is of all of them.

    Args:
        depth, sky: of one shape, of one or more pictures that count as one.

    Returns:
        Depth, and a boolean map of the sky. Where there is hardly any sky, or hardly anything else, the depth is as
        it was, and nothing counts as sky.
    """
    is_sky = sky >= SKY
    amount = int(is_sky.sum())
    if amount <= _FEWEST or sky.numel() - amount <= _FEWEST:
        return depth, torch.zeros_like(is_sky)
    return torch.where(is_sky, _quantile(depth[~is_sky], _SKY_DEPTH), depth), is_sky


def _quantile(values: Tensor, share: float) -> Tensor:
    """Linear between neighbours, as torch.quantile, which takes no more than 16 million values."""
    place = share * (values.numel() - 1)
    below = int(place)
    ordered = values.float().flatten().sort().values
    return torch.lerp(ordered[below], ordered[min(below + 1, values.numel() - 1)], place - below).to(values)
