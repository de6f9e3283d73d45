"""Model files: written and read again, damaged, of another kind."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_refiners import SMALL_ENCODER, build, run, small_config
from torch import Tensor
from weights_files import GIGABYTE, peak_memory, refused

from prv2cli.checkpoints.model_file import (
    Checkpoint,
    load_strictly,
    read_checkpoint,
    save_checkpoint,
    write_tensors,
)
from prv2cli.errors import CheckpointError
from prv2cli.model.build import build_model
from prv2cli.model.coarse.lite import LiteCoarse
from prv2cli.model.config import LiteConfig, RefinerConfig
from prv2cli.model.refiner.patchrefiner import PatchRefiner

ENCODER = "mobilenetv3_small_050"
SMALL = RefinerConfig.model_validate(
    {
        "coarse": {"channels": [4, 6, 8]},
        "encoder": {"name": ENCODER, "levels": 2},
        "c2f": {"widths": [8, 8, 12]},
        "f2c": {"widths": [8, 8, 12], "decoder_widths": [8, 8]},
    }
)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {k: v for k, v in build_model(SMALL).state_dict().items() if v.is_floating_point()}


def write(path: Path, tensors: dict[str, Tensor], config: object, **more: object) -> Path:
    save_file(tensors, path, {"prv2": json.dumps({"format": 1, "config": config, **more})})
    return path


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


def test_weights_for_blurred_maps_lie_beside_the_others(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    second = {name: tensor + 1 for name, tensor in tensors.items()}
    both = Checkpoint(SMALL, tensors, {"data": "none"}, blurred=second)
    path = tmp_path / "both.safetensors"
    write_tensors(path, both.stored, SMALL, both.provenance)
    again = read_checkpoint(path)
    blurred = again.for_blurred()
    assert blurred is not None
    for found, wanted in ((again, tensors), (blurred, second)):
        assert found.tensors.keys() == wanted.keys()
        assert all(torch.equal(found.tensors[name], wanted[name]) for name in wanted)
        found.build()
    assert blurred.for_blurred() is None
    assert (
        read_checkpoint(write(tmp_path / "one.safetensors", tensors, SMALL.model_dump())).for_blurred()
        is None
    )


def test_weights_for_blurred_maps_that_do_not_fit_are_told(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = write(
        tmp_path / "half.safetensors", tensors | {"blurred.head.bias": torch.zeros(3)}, SMALL.model_dump()
    )
    checkpoint = read_checkpoint(path)
    checkpoint.build()
    blurred = checkpoint.for_blurred()
    assert blurred is not None
    with pytest.raises(CheckpointError, match=r"half.safetensors \(blurred\.\*\): .* missing"):
        blurred.build()


def test_lite_checkpoint_round_trip(tmp_path: Path) -> None:
    config = LiteConfig(encoder=SMALL_ENCODER, width=8)
    model = LiteCoarse(config).eval()
    save_checkpoint(tmp_path / "lite.safetensors", model, config, {})
    rgb = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        again = read_checkpoint(tmp_path / "lite.safetensors").build()
        assert torch.equal(again(rgb).depth, model(rgb).depth)


def test_a_file_of_16_bit_numbers_is_half_as_large_and_nearly_the_same(tmp_path: Path) -> None:
    config = LiteConfig(encoder=SMALL_ENCODER, width=8)
    model = LiteCoarse(config).eval()
    for half in (False, True):
        save_checkpoint(tmp_path / f"{half}.safetensors", model, config, {}, half=half)
    sizes = {half: (tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True)}
    assert sizes[True] < 0.65 * sizes[False]
    again = read_checkpoint(tmp_path / "True.safetensors").build()
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    rgb = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.allclose(again(rgb).depth, model(rgb).depth, rtol=0.01)


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


def load(path: Path) -> object:
    return read_checkpoint(path).build()


NAME = "c2f.to_depth.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {k: v for k, v in t.items() if k != NAME}, ["1 missing", NAME]),
        (lambda t: t | {"c2f.more": torch.zeros(2)}, ["1 surplus", "c2f.more"]),
        (lambda t: t | {NAME: torch.zeros(3, 2)}, [NAME, "(3, 2)"]),
        (lambda t: t | {NAME: torch.full_like(t[NAME], math.nan)}, [NAME, "NaN"]),
        (lambda t: t | {NAME: torch.full_like(t[NAME], -math.inf)}, [NAME, "infinite"]),
        (lambda t: t | {NAME: t[NAME].double().fill_(1e300)}, [NAME, "infinite"]),
        (lambda t: t | {NAME: t[NAME].to(torch.int64)}, [NAME, "int64"]),
        (lambda t: t | {NAME: t[NAME].to(torch.float8_e4m3fn)}, [NAME, "float8"]),
    ],
)
def test_tensors_of_a_checkpoint(
    tmp_path: Path, tensors: dict[str, Tensor], change: Callable[..., dict[str, Tensor]], words: list[str]
) -> None:
    path = write(tmp_path / "model.safetensors", change(tensors), SMALL.model_dump(mode="json"))
    refused(load, path, *words)


def test_half_precision_is_read(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    path = write(tmp_path / "model.safetensors", halves, SMALL.model_dump(mode="json"))
    weights = read_checkpoint(path).build().state_dict()
    assert weights[NAME].dtype == torch.float32
    assert torch.equal(weights[NAME], halves[NAME].float())


def monstrous(key: str, value: object) -> dict[str, Any]:
    """The small refiner's configuration with one setting changed."""
    config = SMALL.model_dump(mode="json")
    *parents, leaf = key.split(".")
    group = config
    for name in parents:
        group = group[name]
    group[leaf] = value
    return config


@pytest.mark.parametrize(
    "config",
    [
        monstrous("c2f.widths", [8, 10**9, 12]),
        monstrous("c2f.widths", [8, 40_000, 40_000]),  # 58 GB a layer: the system may promise that
        monstrous("f2c.widths", [10**9, 8, 12]),
        monstrous("f2c.decoder_widths", [10**12, 8]),
        monstrous("coarse.channels", [10**18, 6, 8]),
        monstrous("coarse.channels", [4, 6, 10**30]),
        LiteConfig(encoder=ENCODER, width=10**9).model_dump(mode="json"),
        LiteConfig(encoder=ENCODER, width=30_000).model_dump(mode="json"),
        monstrous("encoder.levels", 10**9),
        monstrous("encoder.name", "no_such_network"),
        monstrous("encoder.name", "hf-hub:someone/something"),
    ],
)
def test_configurations_of_monsters(tmp_path: Path, tensors: dict[str, Tensor], config: object) -> None:
    """Refused when the file is read or the model built, without the memory that they ask for."""
    path = write(tmp_path / "model.safetensors", tensors, config)
    before = peak_memory()
    refused(load, path)
    assert peak_memory() - before < GIGABYTE


def test_nothing_is_downloaded(
    tmp_path: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header of a model that started from pretrained weights says so; its own are in the file."""
    from prv2cli.model.refiner import encoder

    asked: list[object] = []
    create = encoder.create_pyramid

    def watched(name: str, key: str, **options: Any) -> Any:
        asked.append(options.get("pretrained", False))
        return create(name, key, **options)

    monkeypatch.setattr(encoder, "create_pyramid", watched)
    config = monstrous("encoder.pretrained", True)
    assert load(write(tmp_path / "model.safetensors", tensors, config)) is not None
    assert asked
    assert not any(asked)


def test_provenance_is_a_dictionary(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    config = SMALL.model_dump(mode="json")
    path = write(tmp_path / "model.safetensors", tensors, config, provenance=["who", "knows"])
    refused(load, path, "provenance")


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, build_model(SMALL), SMALL, {})
    assert read_checkpoint(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_tied_weights_are_saved_twice(tmp_path: Path) -> None:
    model = build_model(SMALL)
    blocks = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) and m.num_features == 16]
    assert len(blocks) > 1
    blocks[1].weight = blocks[0].weight
    save_checkpoint(tmp_path / "model.safetensors", model, SMALL, {})
    again = read_checkpoint(tmp_path / "model.safetensors").build().state_dict()
    assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())
