"""The log and TensorBoard: whole lines whatever room there is, numbers and pictures."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_loop import CPU, configured, evaluation, losses_of
from training_runs import (
    read_log,
    write_config,
)

from prv2cli.cli import app
from prv2cli.errors import (
    DiskFullError,
    MissingExtraError,
)
from prv2cli.training.logs import RunLog, picture_strip
from prv2cli.training.loop.state import read_state
from prv2cli.training.run import fit


def test_a_log_on_a_full_disk_does_not_end_the_run(data: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    told: list[str] = []
    assert len(losses_of(configured(data, evaluation=evaluation(data)), tmp_path, tell=told.append)) == 3
    (message,) = told
    assert "log.jsonl: no space left" in message
    assert "the run goes on" in message
    assert read_state(tmp_path, CPU)["step"] == 3


class _Tight(io.FileIO):
    """A file on a disk that has so many bytes."""

    room = 1000

    def write(self, data: Any) -> int:
        return super().write(data[: max(0, self.room - self.seek(0, os.SEEK_END))])


def test_lines_of_the_log_are_whole_whatever_room_there_is(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    log = RunLog(tmp_path, configured(data), told.append)
    log.step({"step": 1, "loss": 1.0})
    assert log._file is not None
    log._file.close()
    log._file = file = _Tight(tmp_path / "log.jsonl", "ab")
    for step, room in enumerate([40, 45, 1000, 60, 1000], start=2):  # a line takes 25
        file.room = room
        log.step({"step": step, "loss": 1.0})
    log.close()
    assert [line["step"] for line in read_log(tmp_path)] == [1, 4, 6]
    assert len(told) == 2  # at the beginning of each shortage


def test_a_log_that_cannot_be_kept_is_not_lost(data: Path, tmp_path: Path, full_disk: list[bool]) -> None:
    """What a resumed run keeps of the log is written whole or not at all."""
    losses_of(configured(data), tmp_path)
    before = (tmp_path / "log.jsonl").read_bytes()
    full_disk[0] = True
    with pytest.raises(DiskFullError, match=r"log\.jsonl: no space left"):
        RunLog(tmp_path, configured(data), lambda message: None).step({"step": 3, "loss": 1.0})
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_the_lines_of_tensorboard_end_on_a_full_disk_and_the_run_does_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def add_scalar(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("prv2cli.training.logs.import_tensorboard", lambda: Full)
    told: list[str] = []
    assert len(losses_of(configured(data, tensorboard=True), tmp_path, tell=told.append)) == 3
    assert len(told) == 1
    assert "tensorboard: no space left" in told[0]


def test_tensorboard_has_the_numbers_and_the_pictures(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    changes: dict[str, Any] = {"tensorboard": True, "picture_every": 2, "evaluation": evaluation(data)}
    losses_of(configured(data, "refine", steps=2, **changes), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = [line["loss"] for line in read_log(tmp_path) if "loss" in line]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(logged)
    assert [event.step for event in events.Scalars("evaluation/refined/rmse")] == [2]
    (image,) = events.Images("training sample")
    assert (image.step, image.height, image.width) == (2, 32, 4 * 64)  # photograph, coarse, refined, truth


def test_tensorboard_is_asked_for_by_its_extra(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = write_config(tmp_path / "run.yaml", data, "coarse", tensorboard=True)
    assert app._run(["train", "--config", str(config), "-o", str(tmp_path / "run"), "-q"], False) == 1
    assert "pip install 'prv2cli[train]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(MissingExtraError):
        fit(configured(data, tensorboard=True), tmp_path / "run", device=CPU)
    assert losses_of(configured(data, steps=1), tmp_path / "without")  # nobody else asks for it


def test_a_picture_shows_four_views_side_by_side() -> None:
    depth = torch.ones(1, 8, 12)
    views = {"photograph": torch.zeros(3, 16, 24), "coarse": depth, "refined": 2 * depth, "truth": 0 * depth}
    strip = picture_strip(views)
    assert strip.shape == (16, 4 * 24, 3)
    assert strip.dtype == np.uint8
    near, far, none = strip[5, 30], strip[5, 54], strip[5, 78]
    assert near.sum() > far.sum()
    assert tuple(none) == (128, 128, 128)
