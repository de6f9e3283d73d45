"""The converter of Depth Anything 3's files: every name accounted for, metres only where config.json says so.

Shapes alone decide here, so the tensors are on the meta device; tests/model/test_da3.py converts real values.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from golden_rules import Golden
from torch import Tensor

from prv2cli.checkpoints.authors.da3 import convert_da3, is_da3, reads_metres
from prv2cli.errors import CheckpointError
from prv2cli.model.config import Da3Config

VITS, VITL = Golden.load("da3_vits"), Golden.load("da3_vitl")


def shapes(golden: Golden) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in golden.meta["params"].items()}


METRIC = {"model_name": "da3metric-large", "config": VITL.meta["config"]}


def test_published_names_have_a_prefix() -> None:
    prefixed = {f"model.{name}": tensor for name, tensor in shapes(VITL).items()}
    config, tensors = convert_da3(prefixed, metric=True)
    assert config == Da3Config(metric=True)
    assert list(tensors) == list(convert_da3(shapes(VITL), metric=True)[1])


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("head.extra.weight", (1,), ["unknown", "head.extra.weight"]),
        ("head.scratch.sky_output_conv2.2.bias", None, ["missing", "sky_output_conv2.2.bias"]),
        ("head.scratch.output_conv2.2.weight", (2, 32, 1, 1), ["output_conv2.2", "(2, 32, 1, 1)"]),
        ("head.scratch.refinenet4.resConfUnit1.conv1.bias", (64,), ["surplus", "refinenet4.resConfUnit1"]),
        ("backbone.pretrained.cls_token", (1, 1, 1536), ["1536"]),
        ("backbone.pretrained.camera_token", (1, 2, 384), ["surplus", "camera_token"]),
    ],
)
def test_tensors_that_do_not_fit(name: str, shape: tuple[int, ...] | None, words: list[str]) -> None:
    state = shapes(VITS)
    if shape is None:
        del state[name]
    else:
        state[name] = torch.empty(shape, device="meta")
    with pytest.raises(CheckpointError) as caught:
        convert_da3(state, metric=True)
    assert all(word in str(caught.value) for word in words)


def test_what_config_json_tells() -> None:
    assert is_da3(METRIC)
    assert reads_metres(METRIC)
    assert not reads_metres({**METRIC, "model_name": "da3mono-large"})
    assert not is_da3({"model_type": "depth_anything"})
    with pytest.raises(CheckpointError, match="da3-large"):
        reads_metres({**METRIC, "model_name": "da3-large"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("net.alt_start", 8),
        ("net.cat_token", None),
        ("net.out_layers", [11, 15, 19, 23]),
        ("net.name", "vitg"),
        ("head.output_dim", 2),
        ("head.activation", "relu"),
        ("head.features", 128),
        ("head", None),
    ],
)
def test_another_architecture_is_refused(key: str, value: Any) -> None:
    settings = copy.deepcopy(METRIC)
    config = settings["config"]
    assert isinstance(config, dict)
    group, _, leaf = key.rpartition(".")
    part = config[group] if group else config
    if value is None:
        del part[leaf]
    else:
        part[leaf] = value
    with pytest.raises(CheckpointError, match="Depth Anything 3"):
        reads_metres(settings)
