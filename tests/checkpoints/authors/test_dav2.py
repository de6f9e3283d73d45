"""The converter of the authors' state dicts: every name accounted for, every fault named in their words.

Shapes alone decide here, so the tensors are on the meta device; test_golden.py converts real values.
"""

from __future__ import annotations

import pytest
import torch
from golden_rules import Golden
from torch import Tensor

from prv2cli.checkpoints.authors.dav2 import convert_dav2
from prv2cli.checkpoints.authors.patchrefiner import (
    ENCODERS,
    convert_encoder,
    convert_fusion,
    convert_patchrefiner,
    split_networks,
)
from prv2cli.errors import CheckpointError
from prv2cli.model.build import build_model
from prv2cli.model.coarse.dav2 import Dav2Coarse
from prv2cli.model.config import CoarseFeaturesConfig, Dav2Config, EncoderConfig, F2CConfig, RefinerConfig
from prv2cli.model.timm_pyramid import create_pyramid

FUSION = "refiner_fusion_model."
ENCODER = "refiner_fine_branch.refiner_encoder."


def shapes(name: str) -> dict[str, Tensor]:
    """A state dict of the authors' names and shapes, without values."""
    params = Golden.load(name).meta["params"]
    return {key: torch.empty(shape, device="meta") for key, shape in params.items()}


def test_configuration_is_read_from_the_shapes() -> None:
    config, tensors = convert_patchrefiner(shapes("whole_448x448"))
    assert config.encoder.name == "mobilenetv4_conv_small.e2400_r224_in1k"
    assert config.coarse.kind == "external"
    assert config.coarse.channels == config.c2f.widths == (32, 64, 64, 64, 64, 64)
    assert config.c2f.guidance == "gated"
    assert config.f2c == F2CConfig()
    with torch.device("meta"):
        expected = build_model(config).state_dict()
    assert tensors.keys() == {name for name, tensor in expected.items() if tensor.is_floating_point()}


def test_tensors_of_another_number_of_axes_are_told_as_such() -> None:
    state = shapes("dav2_vits")
    name = next(name for name in state if name.endswith("cls_token"))
    with pytest.raises(CheckpointError, match=r"cls_token of shape \[\]: it should have 3 axes"):
        convert_dav2({**state, name: torch.empty((), device="meta")}, max_depth=20)
    state = shapes("whole_448x448")
    name = next(name for name in state if name.startswith(FUSION) and state[name].dim() == 4)
    flat = {key: tensor.flatten() if tensor.dim() == 4 else tensor for key, tensor in state.items()}
    with pytest.raises(CheckpointError, match="it should have 4 axes"):
        convert_patchrefiner(flat)


@pytest.mark.parametrize(("case", "top"), [("fusion_dav2", 128), ("fusion_zoe", 32)])
def test_fusion_alone(case: str, top: int) -> None:
    config, tensors = convert_fusion(shapes(case))
    assert config.coarse.channels == config.c2f.widths == (top, 256, 256, 256, 256, 256)
    assert {name.partition(".")[0] for name in tensors} == {"c2f", "f2c", "head"}


def test_ablations_of_the_guidance() -> None:
    """Without gate the names are the same, so the caller says so; without guidance they are missing."""
    state = shapes("fusion_zoe")
    assert convert_fusion(state, guidance="fused")[0].c2f.guidance == "fused"
    unguided = {name: tensor for name, tensor in state.items() if ".fusion_conv." not in name}
    assert convert_fusion(unguided)[0].c2f.guidance == "none"


@pytest.mark.parametrize(("channels", "name"), list(ENCODERS.items()))
def test_every_encoder_of_the_authors(channels: tuple[int, ...], name: str) -> None:
    """Their encoder is a timm pyramid with three input channels, and ConvNeXt's added level."""
    with torch.device("meta"):
        state = {f"refiner_encoder.{k}": v for k, v in create_pyramid(name, "name").state_dict().items()}
        if name.startswith("convnext"):
            state["upsample_convx.0.weight"] = torch.empty(channels[1], channels[0], 2, 2)
            state["upsample_convx.0.bias"] = torch.empty(channels[0])
    config = RefinerConfig(
        coarse=CoarseFeaturesConfig(kind="external", channels=(32, *5 * (256,))),
        encoder=EncoderConfig(name=name),
    )
    tensors = convert_encoder(state, config)
    stem = next(iter(tensors.values()))
    assert stem.shape[1] == 4


@pytest.mark.parametrize("size", ["vits", "vitb", "vitl"])
def test_dav2_sizes_have_the_published_number_of_parameters(size: str) -> None:
    """24.8, 97.5 and 335.3 million (Depth Anything V2, model table), less what its forward never reads."""
    config = Dav2Config.model_validate({"encoder": size})
    with torch.device("meta"):
        count = sum(p.numel() for p in Dav2Coarse(config).parameters())
    published = {"vits": 24.8e6, "vitb": 97.5e6, "vitl": 335.3e6}[size]
    assert count == pytest.approx(published, rel=0.005)


def test_dav2_alone_and_inside_a_patchrefiner() -> None:
    alone = convert_dav2(shapes("dav2_vits"), max_depth=20)
    inside = convert_dav2(split_networks(shapes("whole_448x448")).coarse, max_depth=80)
    assert alone[0] == Dav2Config(encoder="vits", max_depth=20)
    assert inside[0] == Dav2Config(encoder="vits", max_depth=80)
    assert alone[1].keys() == inside[1].keys()


def faulty(state: dict[str, Tensor], name: str, shape: tuple[int, ...] | None) -> dict[str, Tensor]:
    """The state dict with one tensor put in, or taken out (shape None)."""
    if shape is None:
        del state[name]
    else:
        state[name] = torch.empty(shape, device="meta")
    return state


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("pe.0.table", (4,), ["unknown", "pe.0.table"]),
        (f"{FUSION}att_block.0.weight", (4,), ["unknown", "att_block.0.weight"]),
        (f"{FUSION}c2f.scratch.refinenet6.out_conv.bias", (4,), ["unknown", "refinenet6.out_conv.bias"]),
        (f"{ENCODER}conv_head.bias", (4,), ["surplus", "refiner_encoder.conv_head.bias"]),
        (f"{FUSION}final_conv.weight", None, ["missing", "final_conv.weight"]),
        (f"{FUSION}c2f.scratch.layer3_rn.weight", None, ["missing", "c2f.scratch.layer3_rn.weight"]),
        (f"{ENCODER}bn1.bias", None, ["missing", "refiner_encoder.bn1.bias"]),
        (
            f"{FUSION}final_conv.weight",
            (1, 32, 1, 1),
            ["final_conv.weight", "(1, 32, 1, 1)", "(1, 32, 3, 3)"],
        ),
        (f"{FUSION}c2f.scratch.layer5_rn.weight", (64, 961, 3, 3), ["961", "960"]),
    ],
)
def test_faults_are_named_in_their_words(name: str, shape: tuple[int, ...] | None, words: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert_patchrefiner(faulty(shapes("whole_448x448"), name, shape))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("depth_head.scratch.extra.weight", (1,), ["unknown", "depth_head.scratch.extra.weight"]),
        ("pretrained.cls_token", None, ["missing", "pretrained.cls_token"]),
        ("pretrained.cls_token", (1, 1, 1536), ["1536"]),
        (
            "depth_head.scratch.refinenet1.resConfUnit1.conv2.bias",
            None,
            ["refinenet1.resConfUnit1.conv2.bias"],
        ),
    ],
)
def test_faults_of_dav2(name: str, shape: tuple[int, ...] | None, words: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert_dav2(faulty(shapes("dav2_vits"), name, shape), max_depth=20)
    assert all(word in str(caught.value) for word in words)
