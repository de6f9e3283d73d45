"""Refiners of any configuration, and `lite`: sizes, gradients, what a zero head does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_refiners import SMALL_ENCODER, assert_learns_everywhere, build, run, small_config
from torch import nn

from prv2cli.model.coarse.lite import LiteCoarse
from prv2cli.model.config import LiteConfig

C2F_VARIANTS = [{"guidance": "gated"}, {"guidance": "fused"}, {"guidance": "none"}, {"enabled": False}]


@pytest.mark.parametrize("variant", C2F_VARIANTS, ids=lambda variant: str(next(iter(variant.values()))))
@pytest.mark.parametrize(
    "groups",
    [
        {"encoder": {"space_to_depth": 4}},
        {"encoder": {"space_to_depth": 2}, "c2f": {"taps": "below", "pixel_level": False}},
        {"head": {"kind": "residual"}, "align_corners": True},
        {
            "depth_space": "metres",
            "coarse": {"kind": "external"},
            "c2f": {"taps": "below", "pixel_level": False},
            "f2c": {"decoder_hidden": "input"},
            "head": {"kind": "residual"},
            "align_corners": True,
        },
    ],
    ids=["stride-4", "stride-2-taps-below", "residual", "paper"],
)
def test_any_configuration(groups: dict[str, Any], variant: dict[str, Any]) -> None:
    groups = groups | {"c2f": groups.get("c2f", {}) | variant}
    model = build(small_config(**groups))
    depth, refined = run(model)
    assert refined.shape == depth.shape
    assert_learns_everywhere(model, refined)


@pytest.mark.parametrize(
    "groups",
    [
        {"encoder": {"space_to_depth": 4}},
        {"encoder": {"space_to_depth": 2}},
        {"head": {"kind": "residual"}},
        {"head": {"kind": "residual"}, "depth_space": "metres", "coarse": {"kind": "external"}},
    ],
    ids=["two-surface-4", "two-surface-2", "residual", "residual-metres"],
)
def test_zero_head_leaves_the_coarse_depth_as_it_is(groups: dict[str, Any]) -> None:
    model = build(small_config(**groups))
    name = "to_residual" if model.config.head.kind == "residual" else "to_surfaces"
    for parameter in model.head.get_submodule(name).parameters():
        nn.init.zeros_(parameter)
    depth, refined = run(model)
    assert torch.equal(refined, depth)


@pytest.mark.parametrize("pixel_level", [True, False])
def test_without_c2f_the_encoder_goes_to_f2c_unguided(pixel_level: bool) -> None:
    config = small_config(c2f={"enabled": False, "pixel_level": pixel_level})
    model = build(config)
    c2f, pixels = model.c2f, model.encoder.pixel_channels
    tile = torch.randn(1, pixels, 32, 32)
    encoder = [torch.randn(1, n, 16 >> k, 16 >> k) for k, n in enumerate(model.encoder.channels)]
    coarse = [torch.randn(1, n, 32 >> k, 32 >> k) for k, n in enumerate(config.coarse.channels)]
    out = c2f(encoder, coarse, tile)
    expected = [(1, width, 32 >> k, 32 >> k) for k, width in enumerate(config.c2f.widths)]
    assert [tuple(feature.shape) for feature in out.features] == expected
    unguided = c2f(encoder, [torch.zeros_like(c) for c in coarse], tile)
    assert all(torch.equal(a, b) for a, b in zip(out.features, unguided.features, strict=True))
    # Level by level: what lies below changes nothing above.
    encoder[2] = torch.zeros_like(encoder[2])
    changed = c2f(encoder, coarse, tile).features
    assert torch.equal(changed[0], out.features[0])
    assert not torch.equal(changed[3], out.features[3])


def test_lite_learns_everywhere() -> None:
    model = LiteCoarse(LiteConfig(encoder=SMALL_ENCODER, width=8)).eval()
    output = model(torch.rand(2, 3, 64, 96))
    depth, features = output.depth, output.features
    assert output.log_doubt is None
    assert depth.shape == (2, 1, 64, 96)
    assert [f.shape[-2:] for f in features] == [(64 // 2**k, 96 // 2**k) for k in range(6)]
    assert_learns_everywhere(model, depth.log())
