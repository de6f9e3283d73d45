"""Our small monocular network as a coarse network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.coarse.network import CoarseDepth, CoarseNetwork, Unit, forward_per_size
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import LiteConfig
from prv2cli.resampling.area import shrink

# Pixels, one of the network's last level: the truth that it learnt from ends before a photograph's corners, so that the
# padding of its convolutions shows there.
UNTRUE = 2


class LiteNetwork:
    """`lite` with its pre-processing, ready on a device (a network.CoarseNetwork).

    Where it doubts its metres, its depth is relative.
    """

    def __init__(
        self, module: nn.Module, config: LiteConfig, device: torch.device, name: str, identity: str
    ) -> None:
        self.module, self.config, self.device = module, config, device
        self.name, self.identity = name, identity

    def predict(self, rgb: np.ndarray, focal_px: float | None = None) -> CoarseDepth:
        return self.predict_many([rgb])[0]

    @torch.inference_mode()
    def predict_many(self, photos: Sequence[np.ndarray]) -> list[CoarseDepth]:
        sizes = [self.config.input_size(rgb.shape[0], rgb.shape[1]) for rgb in photos]
        inputs = [shrink(rgb, size).to(self.device) for rgb, size in zip(photos, sizes, strict=True)]
        outputs = forward_per_size(self.module, inputs)
        depths = [_without_margin(out.depth) for out in outputs]
        if self.config.mirrored:
            mirrored = forward_per_size(self.module, [image.flip(-1) for image in inputs])
            pairs = zip(depths, (_without_margin(out.depth).flip(-1) for out in mirrored), strict=True)
            depths = [(one * other).sqrt() for one, other in pairs]  # the mean of log-depth
        return [
            CoarseDepth(depth, unit=self._unit(out), features=out.features)
            for depth, out in zip(depths, outputs, strict=True)
        ]

    def _unit(self, out: CoarseOutput) -> Unit:
        if out.log_doubt is None or float(out.log_doubt) <= math.log(self.config.trusted):
            return "metre"
        return "relative"


def _without_margin(depth: Tensor) -> Tensor:
    """(B, 1, h, w) on the CPU, its outermost pixels as those within."""
    inner = depth.float().cpu()[..., UNTRUE:-UNTRUE, UNTRUE:-UNTRUE]
    return F.pad(inner, (UNTRUE,) * 4, mode="replicate")


def at_its_word(network: CoarseNetwork) -> CoarseNetwork:
    """The same network, its depth called metres however much it doubts them: to measure how far off it is."""
    if not isinstance(network, LiteNetwork):
        return network
    config = network.config.model_copy(update={"trusted": math.inf})
    return LiteNetwork(network.module, config, network.device, network.name, network.identity)
