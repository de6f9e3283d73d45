"""Whole runs: what they leave, and what is told before and while they run."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scene_runs import STAGE_CONFIGS, full_log, train_on_scenes
from torch import nn
from training_loop import CPU, configured, losses_of
from training_runs import (
    settings,
    write_config,
    write_photographs,
)

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.cli import app
from prv2cli.cli.commands.train import _check_models
from prv2cli.errors import (
    ConfigError,
    Prv2Error,
    UsageError,
)
from prv2cli.files import atomic
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.distributed import World
from prv2cli.training.loop.state import STATE
from prv2cli.training.run import fit, resolve
from prv2cli.training.samples.scene_pool import ScenePool


@pytest.mark.parametrize("stage", STAGE_CONFIGS)
def test_a_run_leaves_a_model_and_a_log(stage: str, cache: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    assert train_on_scenes(stage, out, cache) == 0
    assert capsys.readouterr() == ("", "")  # -q
    checkpoint = read_checkpoint(out / "last.safetensors")
    assert checkpoint.config == load_train_config(STAGE_CONFIGS[stage]).model
    assert isinstance(checkpoint.build(), nn.Module)
    assert (checkpoint.provenance["stage"], checkpoint.provenance["step"]) == (stage, 3)
    log = full_log(out)
    assert [line["step"] for line in log] == [1, 2, 3]
    for line in log:
        assert {"loss", "lr", "seconds"} < set(line)
        assert all(math.isfinite(value) for value in line.values())
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform != "linux", reason="tells children by /proc")
def test_a_run_that_is_terminated_leaves_no_process_behind(tmp_path: Path) -> None:
    """As clusters and `kill` end it: those that make samples would wait for ever for somebody to take them."""
    data, out = write_photographs(tmp_path / "data"), tmp_path / "run"
    sampling = {"image": [64, 96], "tile": [32, 48], "workers": 1}
    config = write_config(tmp_path / "run.yaml", data, "coarse", steps=100_000, sampling=sampling)
    command = [sys.executable, "-m", "prv2cli", "train", "-q", "--config", str(config), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_what_is_not_there_is_told_before_anything_runs(tmp_path: Path, capsys: Any) -> None:
    data = write_photographs(tmp_path / "data", count=1)
    missing = str(tmp_path / "nowhere")
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("refine", {"data": {"root": missing}}, "data.root"),
        ("refine", {"start_from": missing}, "start_from"),
        ("refine", {"coarse_from": missing}, "nowhere"),
        ("transfer", {"transfer": {"teacher": missing}}, "nowhere"),
        ("transfer", {"transfer": {"pseudo_labels": missing}}, "transfer.pseudo_labels"),
        (
            "refine",
            {"evaluation": {"data": {"layout": "folder", "root": missing}}},
            "data.root",
        ),
    ]
    for stage, changes, named in cases:
        path = write_config(tmp_path / "run.yaml", data, stage, **changes)
        assert app._run(["train", "--config", str(path), "-o", str(tmp_path / "run"), "-q"], False) != 0
        error = capsys.readouterr().err
        assert named in error
        assert missing in error
        assert error.count("\n") <= 2, error
        assert not (tmp_path / "run" / "log.jsonl").exists()


def test_a_run_called_like_a_model_may_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("lite")
    run.mkdir()
    (run / STATE).touch()
    config = TrainConfig.model_validate(settings(tmp_path, "refine", coarse_from="lite"))
    _check_models(run, tmp_path / "run.yaml", config)
    own = config.model_copy(update={"coarse_from": str(run.absolute())})
    with pytest.raises(UsageError, match=r"state\.pt in it is the file of coarse_from"):
        _check_models(run, tmp_path / "run.yaml", own)


def test_epochs_become_steps(tmp_path: Path) -> None:
    data = write_photographs(tmp_path, count=5)
    raw = settings(data, "refine", steps=None, epochs=4, batch_size=2, accumulate=2)
    config = TrainConfig.model_validate(raw)
    assert resolve(config, World()).steps == 5  # 20 samples, 4 a step
    assert resolve(config, World(0, 2)).steps == 3
    with pytest.raises(UsageError, match=r"data\.root"):
        resolve(TrainConfig.model_validate(settings(tmp_path / "lost", "refine")), World())


def test_a_run_without_end_is_refused(data: Path) -> None:
    endless: list[dict[str, Any]] = [
        {"steps": 10**18, "batch_size": 100},
        {"batch_size": 10**20},
        {"accumulate": 10**20},
    ]
    for changes in endless:
        with pytest.raises(ConfigError, match="steps: so many"):
            resolve(configured(data, **changes), World())


def test_without_opencv_the_extra_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert train_on_scenes("refine", tmp_path / "run", cache) == 1
    assert "pip install 'prv2cli[train]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_built_is_refused_before_scenes_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(ScenePool, "make", lambda *_: pytest.fail("scenes were made"))
    assert (
        train_on_scenes("coarse", tmp_path / "run", tmp_path, **{"model.encoder": "mobilenet_of_mine"}) == 2
    )
    assert "mobilenet_of_mine" in capsys.readouterr().err


def test_a_run_needs_a_folder_of_its_own(cache: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").touch()
    assert train_on_scenes("refine", tmp_path / "file", cache) == 1
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"data": {"scale": None}}, 2, "does not say its unit; give its numbers per metre: data.scale"),
        ({"data": {"images": "depth", "depths": "images"}}, 1, "no photograph in"),
        (
            {"sampling": {"image": None, "tile": [65, 97], "workers": 1}},
            1,
            "20 samples in a row cannot be used",
        ),
    ],
)
def test_what_is_wrong_with_the_samples_is_told_without_a_traceback(
    changes: dict[str, Any], code: int, message: str, data: Path, tmp_path: Path, capsys: Any
) -> None:
    """They are made in other processes."""
    config = write_config(tmp_path / "run.yaml", data, "refine", **{"sampling": {"workers": 1}, **changes})
    assert app._run(["train", "--config", str(config), "-o", str(tmp_path / "run"), "-q"], False) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("error: ")


@pytest.mark.parametrize(("world", "times"), [(World(0, 4, 0), 1), (World(1, 4, 1), 0), (World(2, 4, 0), 1)])
def test_every_machine_makes_the_scenes_that_it_lacks(
    world: World, times: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []
    monkeypatch.setattr("prv2cli.training.run.prepare_scenes", lambda *_: made.append(True))
    monkeypatch.setattr("prv2cli.training.run.Trainer", lambda *_, **__: SimpleNamespace(run=lambda: None))
    monkeypatch.setattr(World, "wait", lambda _: None)
    fit(configured(data), tmp_path, device=CPU, world=world)
    assert len(made) == times


def test_what_a_run_killed_while_saving_left_is_removed(data: Path, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftover = tmp_path / f".state.pt.{atomic._machine()}-{ended.pid}-0{atomic.TEMP_SUFFIX}"
    leftover.write_bytes(b"half")
    losses_of(configured(data, steps=1), tmp_path)
    assert not leftover.exists()


def test_a_run_that_will_be_replaced_is_told_of(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    losses_of(configured(data, steps=2), tmp_path, tell=told.append)
    losses_of(configured(data, steps=2), tmp_path, tell=told.append, resume=True)
    assert not told
    losses_of(configured(data, steps=2), tmp_path, tell=told.append)
    assert len(told) == 1
    assert str(tmp_path) in told[0]
    assert "--resume" in told[0]


def test_progress_is_told_in_images(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("prv2cli.cli.ui.SECONDS_BETWEEN_LINES", 0.0)
    config = write_config(tmp_path / "run.yaml", data, "coarse", steps=4)
    with contextlib.suppress(Prv2Error):
        assert app._run(["train", "--config", str(config), "-o", str(tmp_path / "run")], False) == 0
    error = capsys.readouterr().err
    assert "step 2 of 4, loss " in error
    assert "images/s" in error
    assert "min left" in error
