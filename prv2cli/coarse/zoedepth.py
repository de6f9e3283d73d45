"""ZoeDepth as a coarse network, and its tensors from a folder in transformers' layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli.coarse.aspect import covering
from prv2cli.coarse.network import CoarseDepth
from prv2cli.coarse.transformers.files import load_pretrained, read_settings
from prv2cli.errors import CheckpointError
from prv2cli.files.disk_array import DiskArray
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import ZoeDepthConfig
from prv2cli.model.layers import resize
from prv2cli.resampling.area import resize_photograph


class ZoeDepthNetwork:
    """ZoeDepth with its pre- and post-processing, ready on a device (a network.CoarseNetwork)."""

    def __init__(
        self, module: nn.Module, config: ZoeDepthConfig, device: torch.device, name: str, identity: str
    ) -> None:
        self.module, self.config, self.device = module, config, device
        self.name, self.identity = name, identity

    @torch.inference_mode()
    def predict(self, rgb: np.ndarray | DiskArray, focal_px: float | None = None) -> CoarseDepth:
        """Depth of an (H, W, 3) uint8 or uint16 photograph in metres, of its aspect, and six features.

        The network sees every photograph at `config.input_size`, whatever its aspect, as in PatchRefiner; the depth
        is brought back to the photograph's aspect, the features stay as they are. It knows no focal length: its
        metres are those of the cameras it was trained with.
        """
        photograph = (rgb.shape[0], rgb.shape[1])
        out: CoarseOutput = self.module(resize_photograph(rgb, self.config.input_size).to(self.device))
        depth = out.depth.float().cpu()
        return CoarseDepth(
            resize(depth, covering(photograph, self.config.input_size), False), features=out.features
        )


def read_zoedepth(folder: Path, name: str) -> tuple[ZoeDepthConfig, dict[str, Tensor]]:
    """A ZoeDepth in transformers' layout -> the configuration and the tensors of a ZoeDepthCoarse.

    Raises CheckpointError: another network, or files that cannot be loaded (see transformers/files.py).
    """
    settings = read_settings(folder, name)
    if settings.get("model_type") != "zoedepth":
        raise CheckpointError(f"{name}: a network of type {settings.get('model_type')!r}, not zoedepth")
    tensors = load_pretrained(folder, name).state_dict()
    return ZoeDepthConfig(transformers=settings), {f"network.{key}": value for key, value in tensors.items()}
