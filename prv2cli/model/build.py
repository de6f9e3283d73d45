"""The networks. `build_model` is the one place where a configuration becomes modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from prv2cli.model.coarse.da3 import Da3Coarse
from prv2cli.model.coarse.dav2 import Dav2Coarse
from prv2cli.model.coarse.lite import LiteCoarse
from prv2cli.model.coarse.moge2 import Moge2Coarse
from prv2cli.model.coarse.zoedepth import ZoeDepthCoarse
from prv2cli.model.config import (
    AnyModelConfig,
    BundleConfig,
    Da3Config,
    Dav2Config,
    LiteConfig,
    Moge2Config,
    RefinerConfig,
    ZoeDepthConfig,
)
from prv2cli.model.refiner.patchrefiner import PatchRefiner


def build_model(config: AnyModelConfig) -> nn.Module:
    """The module that a configuration describes, with freshly initialised weights."""
    return _MODULES[type(config)](config)


class Bundle(nn.Module):
    """A coarse network and its refiner: `coarse.*` and `refiner.*` in one state dict."""

    def __init__(self, config: BundleConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse = build_model(config.coarse)
        self.refiner = build_model(config.refiner)


_MODULES: dict[type[AnyModelConfig], Callable[[Any], nn.Module]] = {
    LiteConfig: LiteCoarse,
    Dav2Config: Dav2Coarse,
    Moge2Config: Moge2Coarse,
    Da3Config: Da3Coarse,
    ZoeDepthConfig: ZoeDepthCoarse,
    RefinerConfig: PatchRefiner,
    BundleConfig: Bundle,
}
