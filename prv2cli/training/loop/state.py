"""What a run leaves in its folder, and how it goes on from there.

    last.safetensors   the model, as `prv2 refine` and `prv2 eval` load it
    best.safetensors   the same at the best evaluation so far
    plateau.pt         state.pt as it was where a plateau's decay began: in its place, a run goes on to more steps
    state.pt           what --resume needs: weights, their mean, the optimiser, the step, the best figure

Each file is written whole or not at all (files/atomic.py), so a killed run leaves the one before. Randomness needs no
state: what a sample or a step draws depends on the seed and its number alone.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from prv2cli.errors import CheckpointError, ConfigError
from prv2cli.files.atomic import atomic_write
from prv2cli.files.text import first_line
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.optimise import decay_start

STATE, LAST, BEST = "state.pt", "last.safetensors", "best.safetensors"
PLATEAU = "plateau.pt"
# What decides about nothing that is learned.
_FREE: dict[str, Any] = {
    "log_every": True,
    "picture_every": True,
    "tensorboard": True,
    "data": {"workers", "cache"},
    "sampling": {"workers"},
    "maps": {"imitators": {"cache"}},
}


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write state.pt, whole or not at all. Raises OutputError; DiskFullError where no space is left."""
    with atomic_write(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # Where a write was stopped, by a full disk or Ctrl-C, torch's writer fails again as it ends its archive.
            raise (error.__context__ or error) from None


def read_state(folder: Path, device: torch.device) -> dict[str, Any]:
    """The state of a stopped run. Raises ConfigError: nothing was saved. CheckpointError: a damaged file."""
    path = folder / STATE
    if not path.exists():
        raise ConfigError(f"--resume: {path} does not exist; nothing was saved in this folder yet")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is None:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            return state
        reason = f"{broken} does not match its checksum"
    except Exception as error:  # a cut or altered archive can fail in any way
        reason = first_line(error)[:200]
    raise CheckpointError(
        f"--resume: {path} is damaged ({reason}); start anew, e.g. with start_from={folder / LAST}"
    )


def check_same_run(state: dict[str, Any], config: TrainConfig, world_size: int, folder: Path) -> None:
    """Refuse to go on with other settings or another number of processes. Raises ConfigError."""
    try:
        saved = TrainConfig.model_validate_json(state["config"])
    except ValidationError as error:
        raise ConfigError(
            f"--resume: the run in {folder} is of a version of prv2 with other settings; "
            f"start anew, e.g. with start_from={folder / LAST}"
        ) from error
    if _on_plateau(state["step"], saved, config):
        saved = saved.model_copy(update={"steps": config.steps})
    wanted, had = (run.model_dump(mode="json", exclude=_FREE) for run in (config, saved))
    if difference := _first_difference(wanted, had):
        key, now, then = difference
        raise ConfigError(
            f"--resume: the settings differ from those of the run in {folder}: {key} is {now!r}, there {then!r}"
        )
    before = state.get("processes", 1)
    if before != world_size:
        raise ConfigError(
            f"--resume: the run in {folder} has {before} process(es), not {world_size}; start as many"
        )


def _on_plateau(step: int, *runs: TrainConfig) -> bool:
    """Whether two runs are between their beginning and decay: then they may have different numbers of steps."""
    return all(
        run.optimiser.schedule == "plateau" and _beginning(run) <= step <= decay_start(run) for run in runs
    )


def _beginning(run: TrainConfig) -> float:
    """Steps until nothing is decided any more by the share of a run that is done, but for its decay."""
    shares = [run.optimiser.warmup]
    if run.on_spoilt_scenes:
        shares += [run.refine.smooth_until, run.refine.cascade_from]
    return max(shares) * run.total_steps


def _first_difference(now: Any, then: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first setting in which two runs differ: its key and both values."""
    if not (isinstance(now, dict) and isinstance(then, dict)):
        return None if now == then else (key, now, then)
    for name in [*now, *(name for name in then if name not in now)]:
        found = _first_difference(now.get(name), then.get(name), f"{key}.{name}" if key else name)
        if found:
            return found
    return None
