"""Folders in transformers' layout: what is refused, and what is read."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from depth_families import CPU, Families, check, scene
from safetensors.torch import load_file, save_file
from torch import Tensor

from prv2cli.coarse.transformers.network import load_transformers_coarse
from prv2cli.errors import CheckpointError, MissingExtraError


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_transformers_coarse(folder, CPU, "hf:org/name", "commit")
    message = str(caught.value)
    assert message.startswith("hf:org/name: ") or str(folder) in message
    assert message.count("\n") == 0
    return message


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def change_settings(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_pickles_are_refused(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "pytorch_model.bin" in refused(folder)
    (folder / "pytorch_model.bin").unlink()
    assert "no weights" in refused(folder)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("head.conv2.weight", None, ["1 missing", "head.conv2.weight"]),
        ("head.conv9.weight", (3,), ["1 surplus", "head.conv9.weight"]),
        ("head.conv2.weight", (5, 4, 3, 3), ["1 of another shape", "head.conv2.weight"]),
    ],
)
def test_tensors_that_do_not_fit(
    name: str, shape: tuple[int, ...] | None, words: list[str], folder: Path
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        if shape is None:
            del tensors[name]
        else:
            tensors[name] = torch.zeros(shape)

    change_tensors(folder, change)
    message = refused(folder)
    assert all(word in message for word in words)


def test_tensors_that_are_never_used(folder: Path, families: Families) -> None:
    """Publishers leave out the skip of the lowest fusion block, and leave in constants: the depth is the same."""

    def change(tensors: dict[str, Tensor]) -> None:
        unused = [key for key in tensors if key.startswith("neck.fusion_stage.layers.0.residual_layer1.")]
        assert len(unused) == 4
        for key in unused:
            del tensors[key]
        tensors["backbone.relative_position_index"] = torch.zeros(3)

    change_tensors(folder, change)
    network = load_transformers_coarse(folder, CPU, "hf:org/name", "commit")
    expected = families("depth_anything_metric")[1].predict(scene())
    assert torch.equal(network.predict(scene()).values, expected.values)


def test_damaged_weights(folder: Path) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors["head.conv2.weight"].fill_(math.nan)

    change_tensors(folder, spoil)
    assert "head.conv2.weight" in refused(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    assert "model.safetensors" in refused(folder)


def test_weights_in_parts(families: Families, tmp_path: Path) -> None:
    published, network = families("depth_anything_metric")
    published.model.save_pretrained(tmp_path, max_shard_size="40KB")
    published.processor.save_pretrained(tmp_path)
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 1
    loaded = load_transformers_coarse(tmp_path, CPU, "hf:org/name", "commit")
    assert torch.equal(loaded.predict(scene()).values, network.predict(scene()).values)

    parts[1].unlink()
    assert parts[1].name in refused(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(parts[1].name, "../pytorch_model.bin"))
    assert "pytorch_model.bin" in refused(tmp_path)
    index.write_text("[]")
    assert "index" in refused(tmp_path)


def test_half_precision_is_widened(folder: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for key, tensor in tensors.items():
            tensors[key] = tensor.half()

    change_tensors(folder, change)
    change_settings(folder, dtype="float16")
    network = load_transformers_coarse(folder, CPU, "hf:org/name", "commit")
    check(network.predict(scene()), scene())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bert"}, ["'bert'", "depth_anything", "zoedepth"]),
        ({"model_type": None}, ["None", "glpn"]),
        ({"depth_estimation_type": "guessed"}, ["depth_estimation_type"]),
        ({"backbone_config": None, "backbone": "org/other"}, ["org/other", "backbone_config"]),
        (
            {"backbone_config": {"model_type": "timm_backbone", "backbone": "hf-hub:org/other"}},
            ["hf-hub:org/other", "backbone_config"],
        ),
        ({"fusion_hidden_size": 20_000}, ["a far larger model than the"]),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], words: list[str], folder: Path) -> None:
    change_settings(folder, **changes)
    message = refused(folder)
    assert all(word in message for word in words)


def test_files_that_are_missing(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in refused(folder)
    (folder / "config.json").write_text("{")
    assert "config.json" in refused(folder)
    (folder / "config.json").unlink()
    assert "config.json" in refused(folder)


def test_code_in_the_folder_is_never_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('code was run')\n")
    change_settings(
        folder, auto_map={"AutoModelForDepthEstimation": "evil.Model", "AutoConfig": "evil.Config"}
    )
    check(load_transformers_coarse(folder, CPU, "hf:org/name", "commit").predict(scene()), scene())


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"hf: models.*prv2cli\[transformers\]"):
        load_transformers_coarse(folder, CPU, "hf:org/name", "commit")


def test_nothing_is_printed_and_nothing_stays_changed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_transformers_coarse(folder, CPU, "hf:org/name", "commit")
    change_tensors(folder, lambda tensors: tensors.__delitem__("head.conv2.weight"))
    refused(folder)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
