"""Refiners small enough to build in a test, and two tiles for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prv2cli.model.build import build_model
from prv2cli.model.config import RefinerConfig
from prv2cli.model.refiner.patchrefiner import PatchRefiner

SMALL_ENCODER = "mobilenetv3_small_100"
BOXES = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.3, 0.25, 0.8, 0.75]])
INDEX = torch.tensor([0, 0])


def small_config(name: str = SMALL_ENCODER, **groups: Any) -> RefinerConfig:
    """A refiner of three levels; `groups` replace or extend the settings."""
    settings: dict[str, Any] = {
        "coarse": {"channels": [4, 6, 8, 8]},
        "encoder": {"name": name, "levels": 3},
        "c2f": {"widths": [8, 8, 12, 16], "taps": "own", "pixel_level": True},
        "f2c": {"widths": [8, 8, 12, 16], "decoder_widths": [8, 8, 12], "decoder_hidden": "output"},
        "head": {"kind": "two-surface", "width": 8},
    }
    for group, values in groups.items():
        settings[group] = settings[group] | values if isinstance(values, dict) else values
    return RefinerConfig.model_validate(settings)


def build(config: RefinerConfig) -> PatchRefiner:
    torch.manual_seed(0)
    model = build_model(config).eval()
    assert isinstance(model, PatchRefiner)
    return model


def run(model: PatchRefiner) -> tuple[Tensor, Tensor]:
    """Two tiles, wider than high, of one photograph: their coarse depth and their refined depth."""
    generator = torch.Generator().manual_seed(1)
    side = model.config.tile_multiple
    rgb = torch.rand(2, 3, side, 2 * side, generator=generator)
    depth = torch.rand(2, 1, side, 2 * side, generator=generator) + 1
    whole = torch.rand(1, 4, 24, 48, generator=generator)
    features = (
        model.encode_image(whole[:, :3], whole[:, 3:])
        if model.guide is not None
        else [torch.rand(1, c, 24, 48, generator=generator) for c in model.config.coarse.channels]
    )
    return depth, model.refine_cropped(rgb, depth, model.crop(features, BOXES, INDEX, rgb.shape[-2:]))


def assert_learns_everywhere(model: nn.Module, output: Tensor) -> None:
    """Every parameter is part of the output; those of our own modules move it."""
    output.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is never used"
        # Inside timm's networks a gradient may start at zero (a norm whose weight starts at zero).
        assert ".network." in f".{name}" or parameter.grad.abs().sum() > 0, f"{name} gets no gradient"
