"""The converter of MoGe-2's files: every name accounted for, its configuration obeyed or refused by name.

Shapes alone decide here, so the tensors are on the meta device; tests/model/test_moge2.py converts real values.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from golden_rules import Golden
from torch import Tensor

from prv2cli.checkpoints.authors.moge2 import convert_moge2
from prv2cli.errors import CheckpointError
from prv2cli.model.coarse.moge2 import Moge2Coarse
from prv2cli.model.config import Moge2Config

VITS, LARGE = Golden.load("moge2_vits"), Golden.load("moge2_llayout")


def shapes(golden: Golden) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in golden.meta["params"].items()}


def test_configurations_of_the_published_files() -> None:
    assert convert_moge2(shapes(VITS), VITS.meta["config"])[0] == Moge2Config()
    assert convert_moge2(shapes(VITS))[0] == Moge2Config()  # from names and shapes alone
    expected = Moge2Config(taps=(2, 5, 8, 11), neck_units=(0, 2, 2, 2, 0), normals=False)
    assert convert_moge2(shapes(LARGE), LARGE.meta["config"])[0] == expected


def test_the_large_networks_of_the_card() -> None:
    """Their number of parameters, of which 1024 are DINOv2's mask token, and 6 the normalisation."""
    for normals, parameters, entries in ((False, 326_209_221, 483), (True, 330_901_544, 521)):
        config = Moge2Config(
            encoder="vitl",
            taps=(5, 11, 17, 23),
            widths=(1024, 256, 128, 64, 32),
            neck_units=(0, 2, 2, 2, 0),
            normals=normals,
        )
        with torch.device("meta"):
            state = Moge2Coarse(config).state_dict()
        assert sum(tensor.numel() for tensor in state.values()) == parameters - 1024
        assert len(state) == entries - 3


@pytest.mark.parametrize("head", ["points_head", "mask_head", "normal_head", "scale_head"])
def test_a_missing_head_is_noticed(head: str) -> None:
    """The authors load such a file without a word."""
    state = {name: t for name, t in shapes(VITS).items() if not name.startswith(f"{head}.")}
    with pytest.raises(CheckpointError, match=f"missing.*{head}"):
        convert_moge2(state, VITS.meta["config"])


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("neck.extra.weight", (1,), ["unknown", "neck.extra.weight"]),
        ("neck.res_blocks.0.0.layers.2.weight", (384, 384, 3, 3), ["surplus", "res_blocks.0.0.layers.2"]),
        ("points_head.res_blocks.2.0.layers.5.bias", None, ["missing", "res_blocks.2.0.layers.5.bias"]),
        ("points_head.output_blocks.4.weight", (4, 32, 1, 1), ["output_blocks.4", "(4, 32, 1, 1)"]),
        (
            "encoder.output_projections.1.weight",
            (384, 768, 1, 1),
            ["output_projections.1", "(384, 768, 1, 1)"],
        ),
        ("encoder.backbone.pos_embed", (1, 257, 384), ["pos_embed", "1370"]),
    ],
)
def test_tensors_that_do_not_fit(name: str, shape: tuple[int, ...] | None, words: list[str]) -> None:
    state = shapes(VITS)
    if shape is None:
        del state[name]
    else:
        state[name] = torch.empty(shape, device="meta")
    with pytest.raises(CheckpointError) as caught:
        convert_moge2(state, VITS.meta["config"])
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("encoder", None, ["no encoder"]),
        ("mask_head", None, ["no mask_head"]),
        ("scale_head", None, ["no scale_head"]),
        ("encoder.backbone", "dinov2_vitg14", ["backbone", "vitg14", "dinov2_vits14"]),
        ("encoder.intermediate_layers", [11, 5], ["taps"]),
        ("encoder.intermediate_layers", [5, 12], ["taps"]),
        ("encoder.intermediate_layers", "all", ["taps"]),
        ("encoder.dim_out", 256, ["dim_out", "256"]),
        ("neck.res_block_in_norm", "layer_norm", ["neck.res_block_in_norm", "layer_norm"]),
        ("mask_head.activation", "silu", ["mask_head.activation", "silu"]),
        ("points_head.resamplers", "bilinear", ["points_head.resamplers", "bilinear"]),
        ("points_head.num_res_blocks", [0, 2, 1, 1, 0], ["num_res_blocks"]),
        ("neck.dim_res_blocks", 256, ["neck.dim_res_blocks", "256"]),
        ("normal_head.dim_out", [None] * 4 + [4], ["normal_head.dim_out"]),
        ("scale_head.dims", [384, 1], ["scale_head.dims"]),
        ("remap_output", "cube", ["remap", "cube"]),
        ("num_tokens_range", [10, 5], ["tokens"]),
    ],
)
def test_settings_of_another_network(key: str, value: Any, words: list[str]) -> None:
    settings = copy.deepcopy(VITS.meta["config"])
    group, _, leaf = key.rpartition(".")
    (settings[group] if group else settings)[leaf] = value
    with pytest.raises(CheckpointError) as caught:
        convert_moge2(shapes(VITS), settings)
    assert all(word in str(caught.value) for word in words)


def test_blocks_counted_from_the_end() -> None:
    settings = copy.deepcopy(VITS.meta["config"])
    settings["encoder"]["intermediate_layers"] = 2
    assert convert_moge2(shapes(VITS), settings)[0].taps == (10, 11)


@pytest.mark.parametrize("remap", ["linear", "sinh", "sinh_exp"])
def test_last_activations_of_the_settings_are_obeyed(remap: str) -> None:
    settings = {**VITS.meta["config"], "remap_output": remap}
    assert convert_moge2(shapes(VITS), settings)[0].remap == remap


def test_another_normalisation_is_refused() -> None:
    state = {"encoder.image_mean": torch.full((1, 3, 1, 1), 0.5), **shapes(VITS)}
    with pytest.raises(CheckpointError, match="image_mean"):
        convert_moge2(state, VITS.meta["config"])


def test_no_settings_and_an_unknown_number_of_projections() -> None:
    with pytest.raises(CheckpointError, match=r"4 projections.*vits"):
        convert_moge2(shapes(LARGE))
