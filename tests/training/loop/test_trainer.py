"""The loop: accumulation, precisions, steps that are skipped, full disks, want of memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from training_loop import CPU, configured, evaluation, losses_of

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.errors import (
    DeviceError,
    DiskFullError,
    Prv2Error,
)
from prv2cli.model.config import LiteConfig
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.state import read_state
from prv2cli.training.loop.trainer import MAX_SKIPPED_IN_A_ROW, Trainer
from prv2cli.training.run import fit
from prv2cli.training.samples.collate import Sample
from prv2cli.training.stages.table import STAGES, Stage, StepOutput


def test_accumulated_batches_learn_what_one_large_batch_does(data: Path, tmp_path: Path) -> None:
    same: dict[str, Any] = {"batchnorm": "frozen", "steps": 3}
    large = losses_of(configured(data, "refine", batch_size=4, **same), tmp_path / "large")
    small = losses_of(configured(data, "refine", batch_size=2, accumulate=2, **same), tmp_path / "small")
    assert small == pytest.approx(large, rel=1e-5)


def test_half_precision_learns_about_the_same(data: Path, tmp_path: Path) -> None:
    whole = losses_of(configured(data, "coarse", steps=2), tmp_path / "fp32")
    for precision in ("bf16", "fp16"):
        half = losses_of(configured(data, "coarse", steps=2, precision=precision), tmp_path / precision)
        assert half != whole
        assert half == pytest.approx(whole, rel=0.05)
        state = read_state(tmp_path / precision, CPU)
        assert bool(state["scaler"]) == (precision == "fp16")


class _Blanks(Dataset[Sample]):
    def __init__(self, config: TrainConfig, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        return {"rgb": torch.zeros(1, 3, 4, 4)}


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Trainer, list[dict]]]:
    """A trainer of stage `coarse` whose loss is that of one number, and NaN in the steps that are named."""

    def make(steps: int, broken: range) -> tuple[Trainer, list[dict]]:
        def step(
            model: nn.Module, batch: dict[str, Tensor], progress: float, config: TrainConfig
        ) -> StepOutput:
            loss = model.weight.square().sum()  # type: ignore[operator]
            return StepOutput(loss * math.nan if round(progress * steps) in broken else loss, {})

        monkeypatch.setitem(STAGES, ("coarse", True), Stage(_Blanks, step))
        monkeypatch.setattr(
            "prv2cli.training.loop.trainer.build_to_train", lambda *_, **__: nn.Linear(2, 1, bias=False)
        )
        reports: list[dict] = []
        data: Any = {"workers": 0}
        config = TrainConfig(
            stage="coarse", model=LiteConfig(), steps=steps, batch_size=1, save_every=99, data=data
        )
        return Trainer(config, tmp_path, CPU, reports.append), reports

    return make


def test_a_step_without_a_finite_loss_is_skipped(loop: Any) -> None:
    trainer, reports = loop(4, range(1, 3))
    weights = []

    def keep(parts: dict[str, Any]) -> None:
        reports.append(parts)
        weights.append(trainer.model.weight.detach().clone())

    trainer.report = keep
    trainer.run()
    assert ["loss" in parts for parts in reports] == [True, False, False, True]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[2], weights[3])
    assert torch.isfinite(weights[3]).all()
    assert trainer.step == 4


def test_a_run_that_only_skips_stops_and_says_what_to_do(loop: Any) -> None:
    trainer, reports = loop(60, range(5, 60))
    with pytest.raises(Prv2Error, match=r"20 losses in a row .* at step 24; lower optimiser\.lr"):
        trainer.run()
    assert len(reports) == 5 + MAX_SKIPPED_IN_A_ROW - 1


def test_skips_are_counted_in_a_row(loop: Any) -> None:
    trainer, reports = loop(45, [i for i in range(45) if i % MAX_SKIPPED_IN_A_ROW])
    trainer.run()
    assert len(reports) == 45


def test_a_batch_with_nan_does_not_poison_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spoilt(_Blanks):
        def __getitem__(self, index: int) -> Sample:
            return {"rgb": torch.full((1, 3, 4, 4), math.nan if index == 1 else 1.0)}

    def step(model: nn.Module, batch: dict[str, Tensor], progress: float, config: TrainConfig) -> StepOutput:
        return StepOutput(model(batch["rgb"]).square().mean(), {})

    monkeypatch.setitem(STAGES, ("coarse", True), Stage(Spoilt, step))
    monkeypatch.setattr("prv2cli.training.loop.trainer.build_to_train", lambda *_, **__: nn.BatchNorm2d(3))
    config = TrainConfig(stage="coarse", model=LiteConfig(), steps=3, batch_size=1, data={"workers": 0})  # type: ignore[arg-type]
    trainer = Trainer(config, tmp_path, CPU, lambda parts: None)
    trainer.run()
    for model in (trainer.model, trainer.ema.model):
        assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_gradients_that_are_not_finite_are_skipped_and_counted(data: Path, tmp_path: Path) -> None:
    config = configured(data, steps=4, optimiser={"ema": 0})
    trainer = Trainer(config, tmp_path, CPU, lambda parts: reports.append(parts))
    reports: list[dict[str, Any]] = []
    weight = next(p for p in trainer.model.parameters() if p.ndim == 4)
    spoilt = {2, 3}  # steps, from 1

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.inf if trainer.step + 1 in spoilt else gradient

    weight.register_hook(spoil)
    trainer.run()
    assert ["loss" in parts for parts in reports] == [True, False, False, True]
    assert [parts["skipped"] for parts in reports if "skipped" in parts] == [1, 2]
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert trainer.skipped == 2
    assert read_state(tmp_path, CPU)["skipped"] == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_says_what_to_lower(
    error: Exception, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(configured(data), tmp_path, CPU, lambda parts: None)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(trainer, "forward", fail)
    with pytest.raises(DeviceError, match=r"cpu ran out of memory; lower batch_size \(now 2"):
        trainer.run()


def test_a_full_disk_leaves_the_old_checkpoint_and_the_run_goes_on(
    data: Path, tmp_path: Path, full_disk: list[bool]
) -> None:
    told: list[str] = []
    config = configured(data, steps=4, save_every=1)

    def report(parts: dict[str, Any]) -> None:
        full_disk[0] = parts["step"] in (2, 3)

    fit(config, tmp_path, device=CPU, report=report, tell=told.append)
    assert len(told) == 2
    assert all("no space left" in message for message in told)
    assert "step 2 could not be saved" in told[0]
    assert "step 1 is kept, the run goes on" in told[0]
    assert read_state(tmp_path, CPU)["step"] == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_at_the_end_is_an_error_and_the_old_checkpoint_stays(
    data: Path, tmp_path: Path, full_disk: list[bool]
) -> None:
    config = configured(data, steps=2, save_every=1)

    def report(parts: dict[str, Any]) -> None:
        full_disk[0] = parts["step"] == 2

    with pytest.raises(DiskFullError, match=r"last\.safetensors: no space left"):
        fit(config, tmp_path, device=CPU, report=report)
    assert read_state(tmp_path, CPU)["step"] == 1
    assert read_checkpoint(tmp_path / "last.safetensors").provenance["step"] == 1


def test_a_worse_model_does_not_replace_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr("prv2cli.training.evaluate.Evaluator.score", lambda *_: next(scores))
    losses_of(configured(data, steps=3, evaluation=evaluation(data, every=1)), tmp_path)
    assert read_checkpoint(tmp_path / "best.safetensors").provenance["step"] == 2
