"""A whole training run: settings made whole, the folder, missing scenes, then the loop (loop/)."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prv2cli.checkpoints.model_file import Checkpoint, read_checkpoint
from prv2cli.errors import ConfigError
from prv2cli.files.atomic import remove_leftovers
from prv2cli.training.both import BOTH, FOR_BLURRED, blurred_run, general_run, second_set, write_both
from prv2cli.training.config.mixture import MixtureData
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.evaluate import make_evaluator
from prv2cli.training.imitators.fit import prepare_imitators
from prv2cli.training.logs import NoLog, RunLog
from prv2cli.training.loop.batches import Tell, samples_per_step
from prv2cli.training.loop.distributed import World
from prv2cli.training.loop.state import BEST, LAST, STATE, check_same_run, read_state
from prv2cli.training.loop.trainer import Report, Trainer
from prv2cli.training.samples.mixture import scene_data
from prv2cli.training.samples.photos import open_pseudo_labels, open_training_data
from prv2cli.training.samples.scene_pool import ScenePool
from prv2cli.training.start import read_start

Progress = Callable[[int, int], None]


def resolve(config: TrainConfig, world: World) -> TrainConfig:
    """The settings with the number of steps, where they say epochs; the data set and the labels are opened for it.

    Raises UsageError, InputError: a data set or a folder that is not there, or has no sample. ConfigError: a run
    without end.
    """
    made_here = config.on_scenes_alone or config.on_mixture
    data = None if made_here else open_training_data(config)
    open_pseudo_labels(config)
    together = samples_per_step(config, world)
    steps, length = config.steps, "steps"
    if steps is None:
        assert config.epochs is not None
        if data is None:
            assert isinstance(config.data, SceneDataConfig)
            count = len(ScenePool(config.data))
        else:
            count = len(data)
        steps, length = max(1, math.ceil(config.epochs * count / together)), "epochs"
    runs = {length: steps, "blurred.steps": (config.blurred and config.blurred.steps) or 0}
    for key, number in runs.items():
        if number * together > sys.maxsize:
            raise ConfigError(
                f"{key}: so many steps of batch_size x accumulate samples cannot be counted; lower it"
            )
    return config.model_copy(update={"steps": steps, "epochs": None})


def fit(
    config: TrainConfig,
    out: Path,
    *,
    device: torch.device,
    resume: bool = False,
    report: Report = lambda parts: None,
    tell: Tell = lambda message: None,
    scene_progress: Progress = lambda done, total: None,
    world: World | None = None,
) -> Path:
    """Train as configured; returns the model file.

    Args:
        out: folder of the run; made if missing. Of two runs (`blurred`): see both.py.
        report: called after every step with step, seconds, loss and its parts; a skipped step has no loss. Of two runs
            the steps of the second are counted on from those of the first.
        tell: called with a line for a person: samples that are left out, checkpoints that could not be written.
        scene_progress: called with (done, total) while missing scenes are made.
        world: this process's place among several.
    """
    world = world or World()
    config = resolve(config, world)
    run = partial(_fit_one, device=device, tell=tell, scene_progress=scene_progress, world=world)
    if config.blurred is None:
        return run(config, out, resume=resume, report=report)

    before, general = blurred_run(config), general_run(config)

    def report_further(parts: dict[str, Any]) -> None:
        report({**parts, "step": before.total_steps + parts["step"]})

    begun = resume and (out / STATE).exists()
    if begun:  # refused now, and not after the whole of the first run
        check_same_run(read_state(out, device), general, world.size, out)
    if world.first:  # told now what it lacks, and not after the whole of the first run
        make_evaluator(general, config.model, device, tell)
    given = read_start(config)
    start = None if given is None else second_set(given)
    run(
        before,
        out / FOR_BLURRED,
        resume=resume,
        report=report,
        outdates=out / STATE,
        start=start,
        whole=general,
    )
    world.wait()  # for the file, which the first process writes; the others take their weights from it
    start = given or (read_checkpoint(out / FOR_BLURRED / LAST) if world.first else None)
    run(general, out, resume=begun, report=report_further, start=start)
    if world.first:
        write_both(out, config)
    world.wait()
    return out / BOTH


def _fit_one(
    config: TrainConfig,
    out: Path,
    *,
    device: torch.device,
    resume: bool,
    report: Report,
    tell: Tell,
    scene_progress: Progress,
    world: World,
    outdates: Path | None = None,
    start: Checkpoint | None = None,
    whole: TrainConfig | None = None,
) -> Path:
    """A run of settings that were resolved, for one set of weights.

    outdates: the state of a run that comes after, where this one begins anew. start: weights in place of `start_from`.
    whole: settings of a run that comes after, whose scenes and networks are prepared now: a fault there is told first.
    """
    out.mkdir(parents=True, exist_ok=True)
    log = RunLog(out, config, tell) if world.first else NoLog()
    if world.first:
        remove_leftovers(out)  # of a run that was killed while it saved
    trainer = Trainer(config, out, device, report, world=world, log=log, tell=tell, start=start)
    if resume:
        trainer.resume()
    elif world.first:
        states = [path for path in (out / STATE, outdates) if path is not None]
        if any(path.exists() for path in states):
            tell(f"{out} holds another run, which this one will replace; --resume would go on with it")
        trainer.outdated = [out / BEST, *([] if outdates is None else [outdates])]
    if world.first:
        prepare_scenes(whole or config, scene_progress)
    world.wait()
    if world.first_here and not world.first:  # on another machine, whose disk may be its own
        prepare_scenes(whole or config, scene_progress)
    world.wait()
    try:
        trainer.run()
    finally:
        if isinstance(log, RunLog):
            log.close()
    return out / LAST


def prepare_scenes(config: TrainConfig, progress: Progress) -> None:
    """Make the procedural scenes that the run lacks, on all cores, and the imitators that it lacks."""
    if isinstance(config.data, SceneDataConfig):
        pool = ScenePool(config.data)
        pool.make(os.cpu_count() or 1, progress)
        if config.maps.imitated or config.maps.validation:
            trained = config.maps.imitated > 0
            prepare_imitators(config.maps.imitators, pool, progress, for_training=trained)
    elif isinstance(config.data, MixtureData) and config.data.scenes is not None:
        ScenePool(scene_data(config.data.scenes)).make(os.cpu_count() or 1, progress)
