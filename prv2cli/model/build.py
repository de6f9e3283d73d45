"""The networks. `build_model` is the one place where a configuration becomes modules."""

from __future__ import annotations

from torch import nn

from prv2cli.model.config import AnyModelConfig, BundleConfig, Dav2Config, LiteConfig, RefinerConfig


def build_model(config: AnyModelConfig) -> nn.Module:
    """The module that a configuration describes, with freshly initialised weights."""
    if isinstance(config, LiteConfig):
        from prv2cli.model.coarse.lite import LiteCoarse

        return LiteCoarse(config)
    if isinstance(config, Dav2Config):
        from prv2cli.model.coarse.dav2 import Dav2Coarse

        return Dav2Coarse(config)
    if isinstance(config, RefinerConfig):
        from prv2cli.model.refiner.patchrefiner import PatchRefiner

        return PatchRefiner(config)
    if isinstance(config, BundleConfig):
        return Bundle(config)
    from prv2cli.model.coarse.zoedepth import ZoeDepthCoarse

    return ZoeDepthCoarse(config)


class Bundle(nn.Module):
    """A coarse network and its refiner: `coarse.*` and `refiner.*` in one state dict."""

    def __init__(self, config: BundleConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse = build_model(config.coarse)
        self.refiner = build_model(config.refiner)
