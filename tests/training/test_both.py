"""A refiner's two sets of weights: two runs, one after the other, and one file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from scene_runs import STAGE_CONFIGS, full_log, overrides, train_on_scenes
from training_loop import CPU, in_processes

from prv2cli.checkpoints.model_file import BLURRED, Checkpoint, read_checkpoint
from prv2cli.errors import CheckpointError, ConfigError, Prv2Error
from prv2cli.refine.refiner import Refiner
from prv2cli.training.both import blurred_run, general_run, joined, second_set, write_both
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import MapsConfig
from prv2cli.training.run import fit
from prv2cli.training.start import build_to_train

BOTH_RUNS: dict[str, Any] = {
    "steps": 2,
    "save_every": 1,
    "blurred": "{steps: 3, degrade: {factor: [5, 9]}, steeper: 1.5}",
}
CHOICE = "head.to_surfaces.weight"


@pytest.fixture(scope="module")
def trained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both runs, of three and two steps."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("both")
    assert train_on_scenes("refine", out, cache, **BOTH_RUNS) == 0
    return out


def settings_of(cache: Path, **changes: Any) -> TrainConfig:
    return load_train_config(STAGE_CONFIGS["refine"], overrides(cache, **{**BOTH_RUNS, **changes}))


def test_both_sets_are_in_one_file_and_the_second_chooses_more_steeply(trained: Path) -> None:
    both = read_checkpoint(trained / "both.safetensors")
    first, second = (read_checkpoint(trained / name / "last.safetensors") for name in ("", "blurred"))
    assert both.config == first.config
    for name, tensor in first.tensors.items():
        assert torch.equal(both.tensors[name], tensor.to(both.tensors[name].dtype)), name
    for name, tensor in second.tensors.items():
        expected = tensor.clone()
        if name.startswith("head.to_surfaces."):
            expected[: len(expected) // 3] *= 1.5
        assert torch.equal(both.blurred[name], expected.to(both.blurred[name].dtype)), name
    assert not torch.equal(first.tensors[CHOICE], second.tensors[CHOICE])
    assert isinstance(Refiner(both, None, device="cpu"), Refiner)


def test_each_run_has_its_own_log_and_provenance(trained: Path) -> None:
    assert [line["step"] for line in full_log(trained)] == [1, 2]
    assert [line["step"] for line in full_log(trained / "blurred")] == [1, 2, 3]
    told = read_checkpoint(trained / "both.safetensors").provenance
    second = told[BLURRED.rstrip(".")]
    assert told["settings"]["maps"]["sensor"] == 0.26
    assert second["settings"]["maps"] == MapsConfig().model_dump(mode="json")
    assert second["settings"]["degrade"]["factor"] == [5, 9]
    assert (second["step"], second["steeper"]) == (3, 1.5)


def test_the_general_run_starts_from_the_weights_for_blurred_maps(trained: Path, cache: Path) -> None:
    """And needs no beginning of another kind."""
    config = settings_of(cache, **{"refine.smooth_until": 0.5, "refine.cascade_from": 0.75})
    general, before = general_run(config), blurred_run(config)
    assert (general.refine.smooth_until, general.refine.cascade_from) == (0, 0)
    assert (before.refine.smooth_until, before.refine.cascade_from) == (0.5, 0.75)
    given = settings_of(cache, start_from=trained / "both.safetensors", **{"refine.smooth_until": 0.5})
    assert general_run(given).refine.smooth_until == 0.5  # as it was asked for
    first, second = (read_checkpoint(trained / name / "last.safetensors") for name in ("blurred", ""))
    anew = build_to_train(general, general.model).state_dict()
    weights = [name for name in first.tensors if name.endswith("weight") and first.tensors[name].dim() == 4]

    def apart(tensors: dict[str, torch.Tensor]) -> float:
        return sum(
            float((tensors[name].float() - second.tensors[name].float()).abs().sum()) for name in weights
        )

    assert apart(first.tensors) < 0.2 * apart(anew)


def test_stopped_in_the_second_run_it_goes_on_there(trained: Path, cache: Path, tmp_path: Path) -> None:
    steps: list[int] = []

    def report(parts: dict[str, Any]) -> None:
        steps.append(parts["step"])
        if parts["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(settings_of(cache), tmp_path, device=CPU, report=report)
    assert steps == [1, 2, 3, 4, 5]
    assert not (tmp_path / "both.safetensors").exists()
    steps.clear()
    written = fit(
        settings_of(cache),
        tmp_path,
        device=CPU,
        resume=True,
        report=lambda parts: steps.append(parts["step"]),
    )
    assert steps == [5]
    whole = read_checkpoint(trained / "both.safetensors").stored
    resumed = read_checkpoint(written).stored
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_begun_anew_replaces_what_is_there_once_it_has_something(
    trained: Path, cache: Path, tmp_path: Path
) -> None:
    """What it finds is told first. The state and the best model of the run before are not taken for its own."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    shutil.copy(trained / "last.safetensors", tmp_path / "best.safetensors")
    shutil.rmtree(tmp_path / "blurred")  # of a run for one set of weights
    other = settings_of(cache, seed=9, **{"data.seed": 1})
    told: list[str] = []

    def stop_at(step: int) -> None:
        def report(parts: dict[str, Any]) -> None:
            if parts["step"] == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(other, tmp_path, device=CPU, report=report, tell=told.append)

    stop_at(1)
    assert [text.split(" holds another run")[0] for text in told] == [str(tmp_path / "blurred")]
    assert (tmp_path / "state.pt").exists()
    stop_at(2)
    assert not (tmp_path / "state.pt").exists()
    stop_at(5)  # in the general run
    assert not (tmp_path / "best.safetensors").exists()


def test_other_settings_of_the_second_run_are_refused_before_the_first_goes_on(
    trained: Path, cache: Path
) -> None:
    other = settings_of(cache, **{"degrade.noisy": 0.4})
    with pytest.raises(ConfigError, match=r"degrade\.noisy is 0\.4, there"):
        fit(other, trained, device=CPU, resume=True, report=lambda parts: pytest.fail("it went on"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
def test_several_processes_make_both_runs(cache: Path, tmp_path: Path) -> None:
    """The first one alone writes the weights that the second run starts from, here at the end of the first run only."""
    raw: dict[str, Any] = {"base": str(STAGE_CONFIGS["refine"].resolve())}
    for pair in overrides(cache, **{**BOTH_RUNS, "save_every": 100}):
        key, value = pair.split("=", 1)
        *groups, last = key.split(".")
        place = raw
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = yaml.safe_load(value)
    config = tmp_path / "pair.yaml"
    config.write_text(yaml.safe_dump(raw))
    in_processes("pair", tmp_path / "out", config)
    told = read_checkpoint(tmp_path / "out/both.safetensors").provenance
    first = read_checkpoint(tmp_path / "out/blurred/last.safetensors")
    assert told["started_from"] == {"file": "last.safetensors", "sha256": first.sha256, "step": 3}
    assert "2 processes" in told["machine"]


def test_what_the_second_run_lacks_is_told_before_the_first(cache: Path, tmp_path: Path) -> None:
    evaluation = (
        f"{{every: 1, data: {{layout: folder, root: {tmp_path / 'nowhere'}, scale: 1}}, coarse: lite}}"
    )
    config = settings_of(cache, evaluation=evaluation)
    with pytest.raises(Prv2Error, match="nowhere"):
        fit(config, tmp_path / "out", device=CPU, report=lambda parts: pytest.fail("it began"))


def test_each_run_starts_from_its_own_set(trained: Path, cache: Path, tmp_path: Path) -> None:
    """As its run left it: the choice is made steeper once, not twice."""
    config = settings_of(cache, start_from=trained / "both.safetensors")
    both = read_checkpoint(trained / "both.safetensors")
    for start, folder in ((both, trained), (second_set(both), trained / "blurred")):
        model = build_to_train(config, config.model, start).state_dict()
        for name, tensor in read_checkpoint(folder / "last.safetensors").tensors.items():
            torch.testing.assert_close(model[name], tensor, rtol=2e-3, atol=1e-6)


def test_the_best_of_the_general_run_is_taken_where_one_is_chosen(
    trained: Path, cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    shutil.copy(trained / "blurred" / "last.safetensors", tmp_path / "best.safetensors")
    for validated, chosen in ((2, "best"), (0, "last")):
        config = settings_of(cache, **{"maps.validation": validated})
        both = read_checkpoint(write_both(tmp_path, config))
        weight = read_checkpoint(tmp_path / f"{chosen}.safetensors").tensors[CHOICE]
        assert torch.equal(both.tensors[CHOICE], weight.half())
    assert not blurred_run(config).chooses_best  # its maps are others


def test_refiners_of_two_shapes_are_not_put_together(trained: Path) -> None:
    first = read_checkpoint(trained / "last.safetensors")
    other = Checkpoint(first.config, {CHOICE: torch.zeros(3, 1)}, name="other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors: the tensors do not fit"):
        joined(first, other, 1.0)


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        (
            "coarse",
            {"blurred": "{steeper: 1.5}"},
            "blurred: stage coarse of this model and data makes no use",
        ),
        ("refine", {"blurred.steeper": 0.5}, r"blurred\.steeper: .*greater than or equal to 1"),
        (
            "refine",
            {"model.head": "{kind: residual}", "model.encoder.space_to_depth": 1, "blurred.steeper": 1.5},
            r"blurred\.steeper: a residual head makes no choice",
        ),
        (
            "refine",
            {"maps.validation": 2, "data.size": 450},
            r"maps\.validation: data\.size \[450, 450\]: both sides must be multiples of",
        ),
        ("refine", {"maps.validation": 2, "data.seed": 76}, r"maps\.validation: .*data\.seed 76"),
        ("refine", {"data.seed": -1}, r"data.*seed: .*greater than or equal to 0"),
        ("refine", {"maps.imitators.seed": -1}, r"maps\.imitators\.seed: .*greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused(
    stage: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    blurred = {} if stage == "coarse" else {"blurred": "{degrade: {factor: [5, 9]}}"}
    with pytest.raises(ConfigError, match=message):
        load_train_config(STAGE_CONFIGS[stage], overrides(tmp_path, **{**blurred, **changes}))


def test_no_file_of_another_program_is_replaced(cache: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "both.safetensors").write_text("a letter")
    assert train_on_scenes("refine", tmp_path, cache, **BOTH_RUNS) == 1
    assert "both.safetensors in it is no model by prv2" in capsys.readouterr().err
    assert (tmp_path / "both.safetensors").read_text() == "a letter"
