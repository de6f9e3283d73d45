"""A stopped or killed run goes on bit for bit, with the same settings and an undamaged state only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from scene_runs import STAGE_CONFIGS, full_log, overrides, train_on_scenes
from training_loop import CPU, configured, evaluation, in_processes, losses_of
from training_runs import (
    read_log,
    write_config,
)

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.errors import (
    CheckpointError,
    ConfigError,
    DiskFullError,
)
from prv2cli.files.atomic import atomic_write
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.state import check_same_run, read_state, write_state
from prv2cli.training.run import fit


def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(cache: Path, tmp_path: Path) -> None:
    """Stopped at step 3, after the save at step 2, with a line of the log half-written."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run: dict[str, Any] = {"steps": 4, "data.tile": 128}
    assert train_on_scenes("refine", whole, cache, **run) == 0
    _stop_at(3, stopped, load_train_config(STAGE_CONFIGS["refine"], overrides(cache, **run)))
    lines = (whole / "log.jsonl").read_text().splitlines(keepends=True)
    (stopped / "log.jsonl").write_text("".join(lines[:3]) + '{"step": 4, "lo')
    assert train_on_scenes("refine", stopped, cache, "--resume", **run) == 0
    assert read_log(stopped) == read_log(whole)
    _check_same_weights(stopped, whole)


def _stop_at(step: int, out: Path, config: TrainConfig) -> None:
    def report(parts: dict[str, Any]) -> None:
        if parts["step"] == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, out, device=CPU, report=report)


def _check_same_weights(a: Path, b: Path) -> None:
    first, second = (read_checkpoint(folder / "last.safetensors").tensors for folder in (a, b))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (a, b)]
    for kind in ("model", "ema"):
        assert all(torch.equal(states[0][kind][name], states[1][kind][name]) for name in states[0][kind])
    assert states[0]["step"] == states[1]["step"]


def test_resume_needs_a_saved_run_of_the_same_settings(cache: Path, tmp_path: Path, capsys: Any) -> None:
    assert train_on_scenes("coarse", tmp_path / "new", cache, "--resume") == 2
    assert "--resume" in (error := capsys.readouterr().err)
    assert "nothing was saved" in error
    out = tmp_path / "run"
    assert train_on_scenes("coarse", out, cache, steps=2) == 0
    before = full_log(out)
    assert train_on_scenes("coarse", out, cache, "--resume", steps=2, seed=9) == 2
    assert "the settings differ" in capsys.readouterr().err
    assert full_log(out) == before  # a refused run leaves the log alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 8, "save_every": 1, "optimiser": {"coarse_lr": 1e-4}}
    config = write_config(tmp_path / "run.yaml", data, "refine", **changes)
    in_processes("kill", tmp_path / "killed", config)
    losses_of(configured(data, "refine", **changes), tmp_path / "whole")
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")
    first, second = (
        read_checkpoint(tmp_path / run / "last.safetensors").tensors for run in ("killed", "whole")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resume_names_the_setting_that_differs(data: Path, tmp_path: Path) -> None:
    losses_of(configured(data), tmp_path)
    for changes, message in (
        ({"optimiser": {"lr": 0.5}}, r"optimiser\.lr is 0\.5, there 0\.001"),
        ({"evaluation": evaluation(data)}, r"evaluation is \{.*\}, there None"),
        ({"sampling": {"tile": [32, 32]}}, r"sampling\.tile is \[32, 32\], there \[32, 48\]"),
    ):
        with pytest.raises(ConfigError, match=f"--resume: .*{message}"):
            fit(configured(data, **changes), tmp_path, device=CPU, resume=True)
    state = read_state(tmp_path, CPU)
    write_state(
        tmp_path / "state.pt", {**state, "config": state["config"].replace('"lr"', '"learning_rate"')}
    )
    with pytest.raises(ConfigError, match=r"--resume: .* version of prv2 .* start_from="):
        fit(configured(data), tmp_path, device=CPU, resume=True)


def test_what_decides_about_nothing_may_differ(data: Path, tmp_path: Path) -> None:
    """Such as the number of processes that make samples, which a run that was short of memory is told to lower."""
    losses_of(configured(data, steps=2), tmp_path)
    changes: dict[str, Any] = {"sampling": {"workers": 1}, "log_every": 7, "picture_every": 3}
    assert losses_of(configured(data, steps=2, **changes), tmp_path, resume=True) == []


@pytest.mark.parametrize(("step", "accepted"), [(9, False), (12, True), (15, False)])
def test_a_run_on_its_plateau_may_be_made_longer(
    step: int, accepted: bool, cache: Path, tmp_path: Path
) -> None:
    """Not before its beginning is over, whose parts are shares of the run, nor after its decay began."""
    long = overrides(cache, steps=40, **{"refine.smooth_until": 0.25, "optimiser.decay": 0.5})
    config = load_train_config(
        STAGE_CONFIGS["refine"],
        overrides(cache, steps=28, **{"refine.smooth_until": 0.25, "optimiser.decay": 0.5}),
    )
    state = {"step": step, "config": config.model_dump_json(), "processes": 1}
    again = partial(check_same_run, state, load_train_config(STAGE_CONFIGS["refine"], long), 1, tmp_path)
    if accepted:
        again()
    else:
        with pytest.raises(ConfigError, match="steps is 40, there 28"):
            again()


@pytest.mark.parametrize("fault", ["cut", "changed", "other"])
def test_a_damaged_state_is_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "state.pt"
    write_state(path, {"a": torch.arange(1000)})
    content = bytearray(path.read_bytes())
    if fault == "cut":
        content = content[: len(content) // 2]
    elif fault == "changed":
        content[len(content) // 2] ^= 1
    else:
        content = bytearray(b"something else")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"--resume: .*state\.pt is damaged"):
        read_state(tmp_path, CPU)


def test_the_state_says_no_space_is_left_though_torchs_writer_does_not(
    tmp_path: Path, full_disk: list[bool]
) -> None:
    full_disk[0] = True
    with pytest.raises(DiskFullError, match=r"state\.pt: no space left"):
        write_state(tmp_path / "state.pt", {"a": torch.zeros(10_000)})
    assert list(tmp_path.iterdir()) == []


class _Interrupted:
    """A file in which Ctrl-C comes after so many writes."""

    def __init__(self, file: BinaryIO, writes: int) -> None:
        self.file, self.left = file, writes

    def write(self, data: Any) -> int:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def test_ctrl_c_at_any_moment_of_a_save_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as the error of torch's writer, which fails again as it ends an archive that was cut."""
    path, old = tmp_path / "state.pt", {"step": 1}
    for writes in range(1000):
        write_state(path, old)
        with monkeypatch.context() as patched:
            patched.setattr("prv2cli.training.loop.state.atomic_write", partial(_interrupted_write, writes))
            try:
                write_state(path, {"step": 2, "weights": torch.zeros(50_000)})
            except KeyboardInterrupt:
                assert read_state(tmp_path, CPU) == old
                assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
            else:
                break
    assert writes > 5
    assert read_state(tmp_path, CPU)["step"] == 2


@contextmanager
def _interrupted_write(writes: int, path: Path) -> Iterator[_Interrupted]:
    with atomic_write(path) as file:
        yield _Interrupted(file, writes)
