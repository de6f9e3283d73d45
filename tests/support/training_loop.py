"""Training within a test: valid settings, a run and its losses, its first batch, runs in processes of their own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training_runs import (
    settings,
    write_config,
)

from prv2cli.cli import app
from prv2cli.model.build import Bundle, build_model
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.batches import batches
from prv2cli.training.loop.distributed import World
from prv2cli.training.run import fit, resolve

CPU = torch.device("cpu")


def configured(data: Path, stage: str = "coarse", **changes: Any) -> TrainConfig:
    """The settings of a small run (training_runs.py)."""
    return TrainConfig.model_validate(settings(data, stage, **changes))


def evaluation(data: Path, **changes: Any) -> dict[str, Any]:
    """Settings of an evaluation on two of its photographs, every second step."""
    folder = {"layout": "folder", "root": str(data), "scale": 1.0}
    return {"data": folder, "every": 2, "limit": 2, "measure": {"boundaries": False}, **changes}


def built(config: TrainConfig) -> Bundle:
    """The model of a run, with random weights."""
    torch.manual_seed(0)
    model = build_model(config.model).train()
    assert isinstance(model, Bundle)
    return model


def train(folder: Path, data: Path, stage: str, code: int = 0, **changes: Any) -> Path:
    """A run by the command line, which must end with the exit code; its folder."""
    config = write_config(folder / f"{stage}.yaml", data, stage, **changes)
    assert app._run(["train", "--config", str(config), "-o", str(folder / stage), "-q"], False) == code
    return folder / stage


def losses_of(config: TrainConfig, out: Path, **options: Any) -> list[float]:
    """Train; the loss of each step, NaN where it was skipped."""
    found: list[float] = []
    fit(config, out, device=CPU, report=lambda parts: found.append(parts.get("loss", math.nan)), **options)
    return found


def first_batch(config: TrainConfig) -> dict[str, Tensor]:
    """The first batch of a run."""
    return next(batches(resolve(config, World()), World(), CPU, lambda line: None, done=0))


def in_processes(mode: str, out: Path, config: Path) -> None:
    """Run training_runs.py as a program; it must succeed."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(here / "training_runs.py"), mode, str(out), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
