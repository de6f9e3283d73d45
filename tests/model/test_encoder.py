"""The light encoder over any pyramid of timm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_refiners import assert_learns_everywhere, build, run, small_config
from torch import nn

from prv2cli.errors import ConfigError
from prv2cli.model.build import build_model
from prv2cli.model.refiner.encoder import LightEncoder, widen_stem
from prv2cli.model.timm_pyramid import import_timm

ENCODERS = [
    "mobilenetv4_conv_small",
    "resnet18",
    "efficientnet_b0",
    "convnext_atto",  # its first stride is 4
    "mobilenetv3_small_100",
]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("stride", [1, 2])
def test_any_encoder(encoder: str, stride: int) -> None:
    model = build(small_config(encoder, encoder={"space_to_depth": stride}))
    depth, refined = run(model)
    assert refined.shape == depth.shape
    assert torch.isfinite(refined).all()
    assert_learns_everywhere(model, refined)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "tf_efficientnet_lite0"])
def test_widened_stem_ignores_the_depth_at_first(name: str) -> None:
    """ConvNeXt's stem has a bias, a tf_ network's is a Conv2dSame."""
    network = import_timm().create_model(name, features_only=True)
    stem = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    wide = widen_stem(stem)
    rgb = torch.rand(1, 3, 33, 47)
    assert type(wide) is type(stem)
    assert wide.in_channels == 4
    assert (wide.bias is None) == (stem.bias is None)
    for depth in (torch.zeros(1, 1, 33, 47), 1e3 * torch.randn(1, 1, 33, 47)):
        assert torch.allclose(wide(torch.cat([rgb, depth], dim=1)), stem(rgb), atol=1e-6)
    wide(torch.cat([rgb, torch.ones(1, 1, 33, 47)], dim=1)).sum().backward()
    assert wide.weight.grad is not None
    assert wide.weight.grad[:, 3].abs().sum() > 0


def test_encoder_statistics_come_from_its_weights() -> None:
    """AdvProp EfficientNets were trained on -1..1, most others with ImageNet's mean and deviation."""
    config = small_config("tf_efficientnet_b0.ap_in1k").encoder
    assert LightEncoder(config).mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert LightEncoder(small_config().encoder).mean.flatten().tolist() == pytest.approx(
        [0.485, 0.456, 0.406]
    )


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (
            {"name": "mobilnetv4_conv_small"},
            ["encoder.name", "mobilnetv4_conv_small", "mobilenetv4_conv_small"],
        ),
        ({"name": "resnet18.no_such_tag"}, ["encoder.name", "resnet18.no_such_tag"]),
        ({"name": "convnext_atto", "levels": 1}, ["encoder.levels", "convnext_atto", "2 to 5"]),
        ({"space_to_depth": 2, "head": "residual"}, ["head.kind", "space_to_depth"]),
    ],
)
def test_impossible_configurations_name_the_key(encoder: dict[str, Any], words: list[str]) -> None:
    head = {"kind": encoder.pop("head", "two-surface")}
    levels = encoder.get("levels", 3)
    config = small_config(
        encoder=encoder,
        head=head,
        coarse={"channels": [4, 6, 8, 8][: levels + 1]},
        c2f={"widths": [8, 8, 12, 16][: levels + 1]},
        f2c={"widths": [8, 8, 12, 16][: levels + 1], "decoder_widths": [8, 8, 12][:levels]},
    )
    with pytest.raises(ConfigError) as caught:
        build_model(config)
    assert all(word in str(caught.value) for word in words)
