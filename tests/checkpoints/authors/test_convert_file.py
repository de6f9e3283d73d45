"""The authors' files through `prv2 models convert`: the reference case gives the reference depth, exactly.

whole_320x480 is saved as their trainer saves, converted, read back, built and run. official_* are the names and
shapes of their light encoders EfficientNet-B5 and ConvNeXt-L with the fusion networks for ZoeDepth's features, as
their code makes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from golden_rules import DATA, TOLERANCE, Golden, image
from torch import Tensor
from typer.testing import CliRunner

from prv2cli.checkpoints.authors.convert_file import convert_file
from prv2cli.checkpoints.authors.patchrefiner import convert_patchrefiner
from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.cli.commands.models.convert import convert
from prv2cli.errors import CheckpointError, OutputError, UsageError
from prv2cli.model.build import build_model
from prv2cli.model.config import BundleConfig, Dav2Config, RefinerConfig
from prv2cli.refine.tiles import authors as paper

CASE = "whole_320x480"
PROCESS = (224, 224)
OPTIONS = ("--max-depth", "80", "--process-size", "224x224")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden.load(CASE)


@pytest.fixture(scope="module")
def state(golden: Golden) -> dict[str, Tensor]:
    return golden.state()


@dataclass(frozen=True)
class Converted:
    """A file of the authors' and what the command made of it."""

    source: Path
    target: Path
    facts: dict[str, Any]


def run(*arguments: object) -> Any:
    """`prv2 models convert` as an application of its own; what it raises is raised here."""
    app = typer.Typer()
    app.command()(convert)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def save_as_their_trainer(path: Path, state: dict[str, Tensor]) -> None:
    """One epoch's file, with the entries that are no parameters: counters, optimiser, schedule."""
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
        for name in state
        if name.endswith("running_mean")
    }
    optimiser = {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save(
        {
            "epoch": 47,
            "model_state_dict": state | counters,
            "optim_state_dict": optimiser,
            "schedule_state_dict": {"last_epoch": 7, "_last_lr": [1e-4]},
        },
        path,
    )


@pytest.fixture(scope="module")
def converted(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Converted:
    folder = tmp_path_factory.mktemp("official")
    source, target = folder / "checkpoint_48.pth", folder / "bundle.safetensors"
    save_as_their_trainer(source, state)
    result = run(source, target, *OPTIONS, "--json")
    return Converted(source, target, json.loads(result.stdout))


def test_the_reference_depth_comes_out(golden: Golden, converted: Converted) -> None:
    """From their file to m1 through nothing but ours; the coarse network runs too."""
    checkpoint = read_checkpoint(converted.target)
    bundle: Any = checkpoint.build()
    photograph = image(golden.seed, (1, 3, *golden.meta["image_raw_shape"]))
    with torch.inference_mode():
        coarse = bundle.coarse(paper.to_process(photograph, PROCESS))
        refiner = bundle.refiner.to(memory_format=torch.channels_last)
        depth = paper.refine_paper(refiner, photograph, coarse, paper.PaperSetup(PROCESS, split=(2, 2)), "m1")
    assert golden.error("coarse_depth", coarse.depth) < TOLERANCE
    assert golden.error("depth_m1", depth) < TOLERANCE


def test_what_the_file_and_the_command_say(converted: Converted) -> None:
    checkpoint = read_checkpoint(converted.target)
    config = checkpoint.config
    assert isinstance(config, BundleConfig)
    assert config.coarse == Dav2Config(encoder="vits", max_depth=80)
    assert config.refiner.encoder.name.startswith("mobilenetv4_conv_small")
    assert config.process_size == PROCESS
    assert checkpoint.provenance["converted_from"] == "checkpoint_48.pth"
    assert len(checkpoint.provenance["source_sha256"]) == 64
    assert converted.facts["kind"] == "bundle"
    assert converted.facts["coarse"] == "dav2 vits"
    assert converted.facts["parameters"] == sum(t.numel() for t in checkpoint.tensors.values())


def test_a_bundle_is_two_checkpoints(converted: Converted) -> None:
    bundle = read_checkpoint(converted.target)
    coarse, refiner = bundle.part("coarse"), bundle.part("refiner")
    assert isinstance(bundle.config, BundleConfig)
    assert (coarse.config, refiner.config) == (bundle.config.coarse, bundle.config.refiner)
    assert len(coarse.tensors) + len(refiner.tensors) == len(bundle.tensors)
    assert coarse.sha256 == bundle.sha256
    for part, checkpoint in (("coarse", coarse), ("refiner", refiner)):
        with torch.device("meta"):
            expected = build_model(checkpoint.config).state_dict()
        assert checkpoint.tensors.keys() == {k for k, v in expected.items() if v.is_floating_point()}
        assert all(torch.equal(v, bundle.tensors[f"{part}.{k}"]) for k, v in checkpoint.tensors.items())
    with pytest.raises(CheckpointError, match="no bundle"):
        refiner.part("coarse")


def without(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}


@dataclass
class Pretended:
    """A file that seems to hold a state dict, and what would have been written: no disk between the two."""

    source: Path
    state: dict[str, Tensor] = field(default_factory=dict)
    written: dict[str, Tensor] = field(default_factory=dict)
    config: object = None

    def write(self, path: Path, tensors: dict[str, Tensor], config: object, provenance: object) -> None:
        self.written, self.config = tensors, config


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pretended:
    file = Pretended(tmp_path / "theirs.pth")
    file.source.write_bytes(b"weights")
    monkeypatch.setattr(
        "prv2cli.checkpoints.authors.convert_file.read_with_settings", lambda path, key: (file.state, None)
    )
    monkeypatch.setattr("prv2cli.checkpoints.authors.convert_file.write_tensors", file.write)
    return file


@pytest.mark.parametrize(
    ("prefixes", "options", "chosen"),
    [
        (("student_model.", "teacher_model."), (), 0),
        (("student_model.", "teacher_model."), ("--part", "teacher"), 1),
        (("student.", "teacher."), ("--part", "student"), 0),
        (("student_model.",), (), 0),
        (("teacher_model.",), (), 0),
        (("model.",), (), 0),
    ],
)
def test_prefixes_of_student_and_teacher(
    tmp_path: Path,
    pretended: Pretended,
    state: dict[str, Tensor],
    prefixes: tuple[str, ...],
    options: tuple[str, ...],
    chosen: int,
) -> None:
    models = [small(state), {name: torch.zeros_like(tensor) for name, tensor in small(state).items()}]
    pretended.state = {p + k: v for p, m in zip(prefixes, models, strict=False) for k, v in m.items()}
    target = tmp_path / "out.safetensors"
    result = run(pretended.source, target, "--max-depth", 20, "--json", *options)
    assert torch.equal(pretended.written["vit.cls_token"], models[chosen]["pretrained.cls_token"])
    notes = json.loads(result.stdout)["notes"]
    assert any("student and teacher" in note for note in notes) == (len(prefixes) == 2)


def small(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The coarse network alone: it is the quicker one to convert."""
    prefix = "coarse_branch."
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def test_the_refiner_of_a_student(tmp_path: Path, state: dict[str, Tensor], converted: Converted) -> None:
    """From a parallel trainer's file of student and teacher, whose coarse branch is broken: the refiner alone.

    It holds what the bundle's holds, and the messages say what is missing.
    """
    zoe = {"coarse_branch.core.core.pretrained.model.cls_token": torch.zeros(1, 1, 4)}
    student = without(state, "coarse_branch.") | zoe
    both = {f"module.student_model.{name}": tensor for name, tensor in student.items()}
    both["module.teacher_model.refiner_fusion_model.final_conv.weight"] = torch.zeros(1, 32, 3, 3)
    source, target = tmp_path / "semi.pth", tmp_path / "refiner.safetensors"
    save_as_their_trainer(source, both)
    with pytest.raises(CheckpointError, match=r"semi\.pth: its coarse branch: missing .*--refiner-only"):
        run(source, target)
    assert not target.exists()
    result = run(source, target, "--refiner-only")
    assert "coarse branch (1 tensors) was left out" in result.stderr
    assert "this is the student" in result.stderr
    got = read_checkpoint(target)
    expected = read_checkpoint(converted.target).part("refiner")
    assert got.config == expected.config
    assert isinstance(got.config, RefinerConfig)
    assert got.config.coarse.kind == "external"
    assert got.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(tensor, expected.tensors[name]) for name, tensor in got.tensors.items())


@pytest.mark.parametrize(
    ("name", "stem"),
    [("efficientnet", "conv_stem"), ("convnext", "stem_0")],
)
def test_their_larger_encoders(name: str, stem: str) -> None:
    """Each of their tensors arrives under one name of ours, or is one that their forward pass never reads.

    A tensor is one number, repeated by strides of zero: 246 million parameters of ConvNeXt take no memory.
    """
    shapes = json.loads((DATA / f"official_{name}.json").read_text())
    theirs = {key: torch.tensor(float(i)).expand(shape) for i, (key, shape) in enumerate(shapes.items())}
    config, ours = convert_patchrefiner(theirs)
    assert config.encoder.name == {"efficientnet": "tf_efficientnet_b5.ap_in1k"}.get(name, "convnext_large")
    assert config.coarse.channels == config.c2f.widths == (32, *5 * (256,))

    for key, tensor in theirs.items():
        timm_name = key.removeprefix("refiner_fine_branch.refiner_encoder.")
        if timm_name != key:
            assert value(ours[f"encoder.network.{timm_name}"]) == value(tensor), key
    assert ours[f"encoder.network.{stem}.weight"].shape[1] == 4

    arrived = [value(tensor) for tensor in ours.values()]
    assert len(set(arrived)) == len(arrived)
    lost = {key for key, tensor in theirs.items() if value(tensor) not in arrived}
    assert lost == {
        key for key in theirs if "refinenet5.GateresConfUnit1." in key or "_fusion.GateresConfUnit1." in key
    }


def value(tensor: Tensor) -> float:
    """The number that a tensor repeats."""
    return float(tensor.reshape(-1)[0])


def test_depth_anything_alone(
    tmp_path: Path, pretended: Pretended, state: dict[str, Tensor], converted: Converted
) -> None:
    pretended.state = small(state)
    result = run(pretended.source, tmp_path / "dav2.safetensors", "--max-depth", 20)
    assert pretended.config == Dav2Config(encoder="vits", max_depth=20)
    expected = read_checkpoint(converted.target).part("coarse").tensors
    assert pretended.written.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in pretended.written.items())
    assert "dav2 vits up to 20 m" in result.stderr


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        (dict, (), UsageError, ["--max-depth", "20", "80"]),
        (dict, ("--max-depth", "0"), UsageError, ["--max-depth 0"]),
        (dict, ("--max-depth", "nan"), UsageError, ["--max-depth nan"]),
        (dict, ("--max-depth", "80", "--process-size", "384x512"), UsageError, ["384x512", "224"]),
        (dict, ("--process-size", "448"), UsageError, ["--process-size 448", "448x448"]),
        (dict, ("--max-depth", "80", "--part", "teacher"), UsageError, ["--part teacher", "one model"]),
        (
            lambda s: {f"student_model.{k}": v for k, v in s.items()},
            ("--part", "teacher"),
            UsageError,
            ["student only"],
        ),
        (
            lambda s: {f"student_model.{k}": v for k, v in s.items()} | {"ema": torch.zeros(1)},
            (),
            CheckpointError,
            ["ema"],
        ),
        (
            lambda s: without(s, "coarse_branch."),
            ("--max-depth", "80"),
            UsageError,
            ["no coarse branch", "--refiner-only"],
        ),
        (
            lambda s: s | {"refiner_fusion_model.more": torch.zeros(1)},
            ("--max-depth", "80"),
            CheckpointError,
            ["unknown", "more"],
        ),
        (
            lambda s: {k: v for k, v in s.items() if not k.endswith("final_conv.weight")},
            ("--max-depth", "80"),
            CheckpointError,
            ["missing", "final_conv.weight"],
        ),
        (
            lambda s: small(s),
            ("--max-depth", "20", "--refiner-only"),
            UsageError,
            ["no PatchRefiner", "--refiner-only"],
        ),
        (
            lambda _: {"core.core.pretrained.model.cls_token": torch.zeros(1)},
            (),
            CheckpointError,
            ["missing tensor attractors.0._net.2.weight"],
        ),
        (lambda _: {"layer.weight": torch.zeros(1)}, (), CheckpointError, ["neither", "layer.weight"]),
    ],
)
def test_what_cannot_be_converted(
    tmp_path: Path,
    pretended: Pretended,
    state: dict[str, Tensor],
    change: Change,
    options: tuple[str, ...],
    error: type[Exception],
    words: list[str],
) -> None:
    pretended.state = change(state)
    with pytest.raises(error) as caught:
        run(pretended.source, tmp_path / "out.safetensors", *options)
    assert all(word in str(caught.value) for word in words), caught.value
    assert len(str(caught.value).splitlines()) == 1
    assert not pretended.written


def test_a_coarse_branch_that_does_not_fit_its_refiner(
    tmp_path: Path, pretended: Pretended, state: dict[str, Tensor]
) -> None:
    """A refiner for 32 + 5 x 256 channels beside a Depth Anything V2 of 32 + 5 x 64."""
    fusion = {
        f"refiner_fusion_model.{k}": torch.empty(shape, device="meta")
        for k, shape in Golden.load("fusion_zoe").meta["params"].items()
    }
    rest = without(state, "refiner_fusion_model.")
    pretended.state = rest | fusion
    with pytest.raises(CheckpointError, match=r"theirs\.pth.*256.*64"):
        convert_file(pretended.source, tmp_path / "out.safetensors", max_depth=80)


def test_targets_that_are_refused(tmp_path: Path) -> None:
    """Before anything is read: the source need not even be a model. With --overwrite it is read."""
    source, old = tmp_path / "in.safetensors", tmp_path / "old.safetensors"
    source.write_bytes(b"in")
    old.write_bytes(b"old")
    (tmp_path / "link.safetensors").symlink_to(source)
    for target, error, word in (
        ("out.pth", UsageError, r"NAME\.safetensors"),
        ("in.safetensors", UsageError, "same file"),
        ("link.safetensors", UsageError, "same file"),
        ("old.safetensors", OutputError, "--overwrite"),
        ("none/out.safetensors", OutputError, "mkdir"),
    ):
        with pytest.raises(error, match=word):
            run(source, tmp_path / target, "--max-depth", 20)
    with pytest.raises(CheckpointError, match=r"in\.safetensors"):
        run(source, old, "--overwrite")
    assert (source.read_bytes(), old.read_bytes()) == (b"in", b"old")


def test_a_model_of_ours_is_no_model_of_theirs(tmp_path: Path, converted: Converted) -> None:
    with pytest.raises(CheckpointError, match="neither"):
        run(converted.target, tmp_path / "again.safetensors")
