"""The networks. `build_model` is the one place where a configuration becomes modules."""

from __future__ import annotations

from torch import nn

from prv2cli.config import LiteConfig, RefinerConfig


def build_model(config: RefinerConfig | LiteConfig) -> nn.Module:
    """The module that a configuration describes, with freshly initialised weights."""
    if isinstance(config, LiteConfig):
        from prv2cli.model.coarse.lite import LiteCoarse

        return LiteCoarse(config)
    from prv2cli.model.patchrefiner import PatchRefiner

    return PatchRefiner(config)
