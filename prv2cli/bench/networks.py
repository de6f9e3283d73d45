"""The coarse networks that a bench knows. Time and memory do not depend on weights: only `lite` has its own.

Each is known twice: as `prv2 refine` runs it over a photograph, and as the module that PatchRefiner's first version
runs again on every tile, at about the 0.2 megapixels that its authors process a tile at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from prv2cli.choices import BenchNetwork
from prv2cli.coarse.load import load_coarse, wrap
from prv2cli.coarse.network import CoarseNetwork
from prv2cli.hub.resolve import resolve
from prv2cli.model.build import build_model
from prv2cli.model.config import AnyCoarseConfig, Dav2Config, Moge2Config

Size = tuple[int, int]  # height, width
_RANDOM: dict[BenchNetwork, tuple[Callable[[], AnyCoarseConfig], Size]] = {
    "dav2-s": (Dav2Config, (392, 518)),
    "moge2-s": (Moge2Config, (420, 560)),  # 1,200 patches, the fewest that it was trained with
}
_LITE_PROCESS = (192, 256)  # it is never shown more


@dataclass(frozen=True)
class Candidate:
    """A coarse network on a device.

    Attributes:
        network: with its pre- and post-processing. module: the network alone, (B, 3, h, w) in 0..1 to a CoarseOutput.
        channels: of its six feature maps, high resolution first. process: size at which it sees a tile.
    """

    name: str
    network: CoarseNetwork
    module: nn.Module
    channels: tuple[int, ...]
    process: Size


def load_candidate(name: BenchNetwork, device: torch.device) -> Candidate:
    """A network by its name: lite as it is embedded, the others with random weights of the published shapes."""
    if name == "lite":
        network: Any = load_coarse(resolve("lite"), device)
        return Candidate(name, network, network.module, network.module.channels, _LITE_PROCESS)
    make, process = _RANDOM[name]
    return candidate(name, make(), process, device)


def candidate(name: str, config: AnyCoarseConfig, process: Size, device: torch.device) -> Candidate:
    """A network of any settings, with random weights."""
    module: Any = build_model(config).eval().requires_grad_(False).to(device)
    network = wrap(module, config, device, name, "random weights")
    return Candidate(name, network, module, module.channels, process)
