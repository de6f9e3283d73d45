"""Model files: written and read again, damaged, of another kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_refiners import SMALL_ENCODER, build, run, small_config

from prv2cli.checkpoints.model_file import Checkpoint, load_strictly, read_checkpoint, save_checkpoint
from prv2cli.errors import CheckpointError
from prv2cli.model.coarse.lite import LiteCoarse
from prv2cli.model.config import LiteConfig
from prv2cli.model.refiner.patchrefiner import PatchRefiner


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PatchRefiner]:
    model = build(small_config(encoder={"space_to_depth": 2}))
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save_checkpoint(path, model, model.config, {"data": "none"})
    return path, model


def test_checkpoint_round_trip(saved: tuple[Path, PatchRefiner]) -> None:
    path, model = saved
    checkpoint = read_checkpoint(path)
    again = checkpoint.build()
    assert isinstance(again, PatchRefiner)
    assert checkpoint.config == model.config
    assert checkpoint.provenance == {"data": "none"}
    assert len(checkpoint.sha256) == 64
    with torch.inference_mode():
        assert torch.equal(run(again)[1], run(model)[1])


def test_lite_checkpoint_round_trip(tmp_path: Path) -> None:
    config = LiteConfig(encoder=SMALL_ENCODER, width=8)
    model = LiteCoarse(config).eval()
    save_checkpoint(tmp_path / "lite.safetensors", model, config, {})
    rgb = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        again = read_checkpoint(tmp_path / "lite.safetensors").build()
        assert torch.equal(again(rgb).depth, model(rgb).depth)


@pytest.mark.parametrize("fault", ["missing", "surplus", "misshapen"])
def test_tensors_that_do_not_fit_are_named(saved: tuple[Path, PatchRefiner], fault: str) -> None:
    checkpoint = read_checkpoint(saved[0])
    tensors = dict(checkpoint.tensors)
    name = "c2f.to_depth.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "surplus":
        name = "c2f.unheard_of.weight"
        tensors[name] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(2, 3)
    with pytest.raises(CheckpointError, match=name):
        Checkpoint(checkpoint.config, tensors).build()


def test_a_tensor_of_another_type_is_converted(saved: tuple[Path, PatchRefiner]) -> None:
    path, model = saved
    load_strictly(build(model.config), {k: v.double() for k, v in read_checkpoint(path).tensors.items()})


def test_damaged_values_are_refused(saved: tuple[Path, PatchRefiner], tmp_path: Path) -> None:
    model = build(saved[1].config)
    with torch.no_grad():
        model.c2f.to_depth.weight[0, 0] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", model, model.config, {})
    with pytest.raises(CheckpointError, match=r"c2f\.to_depth\.weight"):
        read_checkpoint(tmp_path / "nan.safetensors")


def test_files_that_are_no_models_are_refused(saved: tuple[Path, PatchRefiner], tmp_path: Path) -> None:
    whole = saved[0].read_bytes()
    foreign, truncated, text = (
        tmp_path / "foreign.safetensors",
        tmp_path / "cut.safetensors",
        tmp_path / "a.txt",
    )
    save_file({"weight": torch.zeros(1)}, foreign)
    truncated.write_bytes(whole[: len(whole) // 2])
    text.write_text("not a model")
    for path in (foreign, truncated, text, tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(CheckpointError, match=path.name):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "header",
    [
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 99, "config": {}}',
        '{"format": 1, "config": {"kind": "refiner", "no": 1}}',
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(1)}, path, {"prv2": header})
    with pytest.raises(CheckpointError, match=path.name):
        read_checkpoint(path)
