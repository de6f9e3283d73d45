"""Measuring during a run: every stage, the best kept, what cannot be measured told."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from training_loop import CPU, configured, evaluation, losses_of
from training_runs import (
    read_log,
    write_photographs,
)

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.model.build import build_model
from prv2cli.training.evaluate import Evaluator
from prv2cli.training.loop.state import read_state


@pytest.mark.parametrize("stage", ["coarse", "noisy-pretrain", "refine"])
def test_every_stage_is_evaluated_and_its_best_kept(data: Path, tmp_path: Path, stage: str) -> None:
    config = configured(data, stage, steps=3, evaluation=evaluation(data, best="delta1"))
    measured = losses_of(config, tmp_path / "run")
    if stage == "coarse":  # looking does not change what is learned
        assert measured == losses_of(configured(data, stage, steps=3), tmp_path / "plain")
    found = [line for line in read_log(tmp_path / "run") if "evaluation" in line]
    assert [line["step"] for line in found] == [2, 3]
    figures = [line["evaluation"]["refined"] for line in found]
    assert all(math.isfinite(one["rmse"]) and 0 <= one["delta1"] <= 1 for one in figures)
    best = read_checkpoint(tmp_path / "run" / "best.safetensors")
    expected = max(found, key=lambda line: line["evaluation"]["refined"]["delta1"])["step"]
    assert best.provenance["step"] == expected
    assert read_state(tmp_path / "run", CPU)["best"] == -max(one["delta1"] for one in figures)


def test_what_cannot_be_measured_is_told_at_the_first_evaluation_only(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "data")
    (data / "depth" / "01.npy").unlink()
    told: list[str] = []
    config = configured(data, "coarse", steps=3, evaluation=evaluation(data, every=1))
    evaluator = Evaluator(config, config.model, CPU, told.append)
    model = build_model(config.model)
    for _ in range(2):
        assert len(evaluator.measure(model).images) == 1
    assert [line.partition(" ")[0] for line in told] == ["01"]


def test_a_figure_that_cannot_be_measured_is_told(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    settings = evaluation(data, best="edge_f1", measure={"boundaries": False})
    losses_of(configured(data, steps=2, evaluation=settings), tmp_path, tell=told.append)
    assert told == ["evaluation.best: edge_f1 could not be measured at step 2"]
    assert not (tmp_path / "best.safetensors").exists()


def test_a_run_goes_on_where_its_model_cannot_be_measured(data: Path, tmp_path: Path) -> None:
    """The paper's tiling takes no photograph whose sides are no multiples of 4: that is found out on the way."""
    odd = write_photographs(tmp_path / "odd", size=(63, 95))
    config = configured(data, "refine", steps=2, evaluation=evaluation(odd, every=1, mode="m1"))
    told: list[str] = []
    assert len(losses_of(config, tmp_path / "run", tell=told.append)) == 2
    assert len(told) == 2
    assert all("could not be measured" in line and "divisible by 4" in line for line in told)
    assert read_checkpoint(tmp_path / "run" / "last.safetensors").provenance["step"] == 2
