"""Our small monocular network as a coarse network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from prv2cli.coarse.network import CoarseDepth, forward_per_size
from prv2cli.model.config import LiteConfig
from prv2cli.resampling.area import shrink

SIZE_MULTIPLE = 32


class LiteNetwork:
    """`lite` with its pre-processing, ready on a device (a network.CoarseNetwork)."""

    def __init__(
        self, module: nn.Module, config: LiteConfig, device: torch.device, name: str, identity: str
    ) -> None:
        self.module, self.config, self.device = module, config, device
        self.name, self.identity = name, identity

    def predict(self, rgb: np.ndarray, focal_px: float | None = None) -> CoarseDepth:
        return self.predict_many([rgb])[0]

    @torch.inference_mode()
    def predict_many(self, photos: Sequence[np.ndarray]) -> list[CoarseDepth]:
        sizes = [input_size(rgb.shape[0], rgb.shape[1], self.config.long_side) for rgb in photos]
        inputs = [shrink(rgb, size).to(self.device) for rgb, size in zip(photos, sizes, strict=True)]
        outputs = forward_per_size(self.module, inputs)
        return [CoarseDepth(out.depth.float().cpu(), features=out.features) for out in outputs]


def input_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Size to which a photograph is resized for `lite`: its aspect kept, both sides multiples of 32."""
    scale = long_side / max(height, width)
    sides = (max(1, round(side * scale / SIZE_MULTIPLE)) * SIZE_MULTIPLE for side in (height, width))
    rows, columns = sides
    return rows, columns
