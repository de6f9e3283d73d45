"""The one training loop: data, precision, schedule, several processes, evaluation, checkpoints, resume.

What a step computes is in stages/. One step, in each of W processes:

    accumulate x ( batch_size samples ─ labeller ─ stage.step ─ loss ─ backward )
    ─ mean of the gradients over the processes ─ clip ─ AdamW ─ mean of the weights

Step s takes samples s * G .. (s + 1) * G - 1 of the run, G = batch_size * accumulate * W, dealt to the processes in
turn; sample i and what is drawn for it depend on the seed and i alone. So W processes learn what one would with W times
the batch, and resuming is skipping.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset

from prv2cli.checkpoints.model_file import save_checkpoint
from prv2cli.errors import ConfigError, DeviceError, OutputError, Prv2Error
from prv2cli.files.atomic import remove_leftovers
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.distributed import World
from prv2cli.training.evaluate import Evaluator
from prv2cli.training.logs import Log, NoLog, RunLog, picture_strip
from prv2cli.training.optimise import (
    Ema,
    make_optimiser,
    parameter_groups,
    rates,
    set_rates,
    set_training_mode,
)
from prv2cli.training.samples.photos import open_pseudo_labels, open_training_data
from prv2cli.training.samples.procedural import BROKEN, ScenePool, collate
from prv2cli.training.stages import Batch, StepOutput, stage_of
from prv2cli.training.start import build_to_train
from prv2cli.training.state import BEST, LAST, STATE, check_same_run, read_state, write_state
from prv2cli.training.workers import Carried, join, unpacked
from prv2cli.version import __version__

Report = Callable[[dict[str, Any]], None]
Tell = Callable[[str], None]
Progress = Callable[[int, int], None]
MAX_SKIPPED_IN_A_ROW = 20
FIRST_SCALE = (
    2.0**12
)  # of fp16 losses; torch's 2^16 begins with skipped steps, as SILog is of the order of 10


class _Forward(nn.Module):
    """A step's forward pass as a module: what DDP wraps."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config, self.step = model, config, stage_of(config).step

    def forward(self, batch: Batch, progress: float) -> StepOutput:
        return self.step(self.model, batch, progress, self.config)


class Trainer:
    """One run in one folder (state.py says what it leaves there)."""

    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        device: torch.device,
        report: Report,
        *,
        world: World | None = None,
        log: Log | None = None,
        tell: Tell = lambda message: None,
    ) -> None:
        torch.manual_seed(config.seed)
        # Most pixels of a good tile have next to no gradient; as denormal numbers they slow CPU kernels threefold.
        torch.set_flush_denormal(True)
        self.config, self.out, self.device, self.report = config, out, device, report
        self.world, self.log, self.tell = world or World(), log or NoLog(), tell
        stage = stage_of(config)
        self.trained = stage.trained(config)
        model = build_to_train(config, self.trained).to(device)
        self.model: nn.Module = model.to(memory_format=torch.channels_last) if config.channels_last else model
        self.groups = parameter_groups(self.model, config.optimiser)
        self.optimiser = make_optimiser(self.groups)
        self.scaler = torch.amp.GradScaler(device.type, FIRST_SCALE, enabled=config.precision == "fp16")
        self.ema = Ema(self.model, config.optimiser.ema)
        self.labeller = stage.labeller(config, device)
        evaluates = config.evaluation is not None and self.world.first
        self.evaluator = Evaluator(config, self.trained, device, tell) if evaluates else None
        self.forward = self._wrap()
        self.step = self.skipped = 0
        self.seconds = 0.0
        self.best = math.inf
        self._saved_step: int | None = None
        self._broken: set[str] = set()

    def _wrap(self) -> nn.Module:
        if self.config.batchnorm == "synchronised":
            if self.device.type != "cuda":
                raise ConfigError(
                    "batchnorm: synchronised works on CUDA devices only; use per-process or frozen"
                )
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        if self.config.compile:
            compile_parts(self.model)
        forward = _Forward(self.model, self.config)
        if self.world.size == 1:
            return forward
        # BatchNorm's running statistics are the first process's.
        return DistributedDataParallel(forward, find_unused_parameters=self.config.has_zoedepth)

    def run(self) -> None:
        """Train to the configured number of steps, evaluating and saving on the way.

        Raises:
            DeviceError: out of memory. OutputError: the last step could not be saved. InputError: too many samples
            cannot be read. Prv2Error: losses stay NaN or infinite, or a process that makes samples was killed.
        """
        try:
            self._run()
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            raise DeviceError(
                f"{self.device} ran out of memory; lower batch_size (now {self.config.batch_size}; accumulate makes up "
                "for it) or the sizes of the model, tiles and photographs"
            ) from error

    def _run(self) -> None:
        in_a_row, last = 0, time.perf_counter()
        for batches in self._steps():
            numbers, pictures = self._take_step(batches)
            now = time.perf_counter()
            self.seconds, last = self.seconds + now - last, now
            in_a_row = 0 if numbers else in_a_row + 1
            if in_a_row >= MAX_SKIPPED_IN_A_ROW:
                raise Prv2Error(
                    f"{in_a_row} losses in a row were NaN or infinite at step {self.step}; lower optimiser.lr"
                    + ("" if self.config.precision == "fp32" else ", or try precision=fp32")
                )
            self.step += 1
            if not numbers:
                self.skipped += 1
                numbers = {"skipped": self.skipped}
            self._tell_step(numbers, pictures)
            self._evaluate_if_due()
            if self.step % self.config.save_every == 0 or self.step == self.config.total_steps:
                self.save()

    def _take_step(self, batches: list[Batch]) -> tuple[dict[str, float], Mapping[str, Tensor]]:
        """One optimiser step: its numbers and pictures; both empty when a loss was not finite and it was skipped."""
        now = rates(self.config, self.step)
        set_rates(self.optimiser, self.groups, now)
        set_training_mode(self.model, self.config)
        # The forward pass updates BatchNorm's statistics: what a spoilt batch leaves there must be undone.
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        self.optimiser.zero_grad(set_to_none=True)
        outputs: list[StepOutput] = []
        for number, batch in enumerate(batches):
            # So that dropout and the like depend on the step alone: a resumed run draws what the whole one drew.
            draw = np.random.SeedSequence((self.config.seed, self.step, number, self.world.rank))
            torch.manual_seed(int(draw.generate_state(1)[0]))
            output = self._forward_and_back(batch, last=number == len(batches) - 1)
            if output is None:
                return self._undo(buffers)
            outputs.append(output)
        self.scaler.unscale_(self.optimiser)
        parameters = [p for group in self.groups for p in group.parameters]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.optimiser.clip)
        if not torch.isfinite(norm):  # the same in all processes: so are the gradients
            if self.scaler.is_enabled():
                self.scaler.step(self.optimiser)  # which only takes note of it
                self.scaler.update()
            return self._undo(buffers)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.ema.update(self.model, self.step)
        numbers = self._mean_of(outputs)
        lr = self.config.optimiser.lr * now.share
        return {"loss": numbers.pop("loss"), "lr": lr, **numbers}, outputs[0].pictures

    def _forward_and_back(self, batch: Batch, *, last: bool) -> StepOutput | None:
        """Add the gradients of one batch; None where the loss is not finite in some process."""
        alone = last or self.world.size == 1
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.precision)
        with nullcontext() if alone else self.forward.no_sync():  # type: ignore[operator]
            with torch.autocast(self.device.type, half or torch.bfloat16, enabled=half is not None):
                if self.labeller is not None:
                    batch = self.labeller(batch)
                output: StepOutput = self.forward(batch, self.step / self.config.total_steps)
            if not self.world.everywhere(bool(torch.isfinite(output.loss)), self.device):
                return None
            self.scaler.scale(output.loss / self.config.accumulate).backward()
        return output

    def _undo(self, buffers: list[Tensor]) -> tuple[dict[str, float], Mapping[str, Tensor]]:
        """Leave the model as it was before the step."""
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        return {}, {}

    def _mean_of(self, outputs: list[StepOutput]) -> dict[str, float]:
        """Loss and parts, averaged over the batches of the step and the processes."""
        each = [{"loss": output.loss.detach(), **output.parts} for output in outputs]
        if len(each) == 1:
            return self.world.mean(each[0])
        return self.world.mean({name: torch.stack([one[name] for one in each]).mean() for name in each[0]})

    def _tell_step(self, numbers: dict[str, float], pictures: Mapping[str, Tensor]) -> None:
        told = {"step": self.step, "seconds": round(self.seconds, 2), **numbers}
        self.log.step(told)
        wanted = self.config.tensorboard and self.step % self.config.picture_every == 0
        if wanted and pictures and self.world.first:
            self.log.pictures(self.step, picture_strip(pictures))
        self.report(told)

    def _steps(self) -> Iterator[list[Batch]]:
        """The batches of each step still to do, on the device."""
        batches: list[Batch] = []
        for batch in self._batches():
            batches.append(batch)
            if len(batches) == self.config.accumulate:
                yield batches
                batches = []

    def _batches(self) -> Iterator[Batch]:
        config, world = self.config, self.world
        together = samples_per_step(config, world)
        samples = stage_of(config).samples(config, config.total_steps * together)
        mine = range(self.step * together + world.rank, config.total_steps * together, world.size)
        loader = DataLoader(
            Subset(Carried(samples), mine),
            batch_size=config.batch_size,
            num_workers=config.workers,
            collate_fn=join,
            worker_init_fn=_one_thread,
            persistent_workers=False,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="spawn" if config.workers else None,
        )
        for batch in unpacked(loader):
            self._tell_broken(batch.pop(BROKEN))
            moved = {key: tensor.to(self.device, non_blocking=True) for key, tensor in batch.items()}
            if config.channels_last and "rgb" in moved:
                moved["rgb"] = moved["rgb"].contiguous(memory_format=torch.channels_last)
            yield moved

    def _tell_broken(self, broken: list[tuple[str, str]]) -> None:
        """Each sample that could not be used, once."""
        for name, why in broken:
            if name not in self._broken:
                self._broken.add(name)
                self.tell(f"{name} is left out: {why}")

    def _evaluate_if_due(self) -> None:
        evaluation = self.config.evaluation
        if evaluation is None:
            return
        if self.evaluator is not None and self.evaluator.due(self.step):
            report = self.evaluator.measure(self.ema.model)
            self.log.evaluated(self.step, report.to_json()["means"])
            score = self.evaluator.score(report)
            if math.isnan(score):
                self.tell(f"evaluation.best: {evaluation.best} could not be measured at step {self.step}")
            if score < self.best and self._try_to_save(lambda: self._save_model(BEST)):
                self.best = score
        if self.step % evaluation.every == 0 or self.step == self.config.total_steps:
            self.world.wait()

    def save(self) -> None:
        """Write the model and everything a resumed run needs. Where that fails on the way, the run goes on.

        Raises OutputError at the last step.
        """
        if not self.world.first:
            return
        if self.step < self.config.total_steps:
            self._try_to_save(self._save_all)
        else:
            self._save_all()

    def _try_to_save(self, save: Callable[[], None]) -> bool:
        try:
            save()
            return True
        except OutputError as error:
            kept = "nothing is saved yet" if self._saved_step is None else f"step {self._saved_step} is kept"
            self.tell(f"step {self.step} could not be saved ({error}); {kept}, the run goes on")
            return False

    def _save_all(self) -> None:
        self._save_model(LAST)
        write_state(self.out / STATE, self._state())
        self._saved_step = self.step

    def _save_model(self, name: str) -> None:
        save_checkpoint(self.out / name, self.ema.model, self.trained, self.provenance())

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "best": self.best,
            "processes": self.world.size,
            "config": self.config.model_dump_json(),
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema.decay > 0 else None,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def resume(self) -> None:
        """Continue from `state.pt`. Raises ConfigError when there is none or its settings differ, CheckpointError."""
        state = read_state(self.out, self.device)
        check_same_run(state, self.config, self.world.size, self.out)
        self.model.load_state_dict(state["model"])
        if self.ema.decay > 0:
            self.ema.model.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.skipped, self.best = state.get("skipped", 0), state.get("best", math.inf)
        self._saved_step = self.step

    def provenance(self) -> dict[str, Any]:
        """Where the weights come from, for the header of the model file."""
        return {
            "software": f"prv2cli {__version__}",
            "stage": self.config.stage,
            "step": self.step,
            "training_seconds": round(self.seconds),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s), {self.device.type}"
            + (f", {self.world.size} processes" if self.world.size > 1 else ""),
            "settings": self.config.model_dump(mode="json", exclude={"model"}),
        }


def _out_of_memory(error: Exception) -> bool:
    """On a CPU torch says so in the message alone."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def compile_parts(model: nn.Module) -> None:
    """torch.compile the parts of a model that do the work, in place: names and checkpoints stay as they are."""
    for name, part in model.named_children():
        if name in ("coarse", "refiner"):
            compile_parts(part)
        elif any(True for _ in part.parameters()):
            part.compile()


def samples_per_step(config: TrainConfig, world: World) -> int:
    """In all processes."""
    return config.batch_size * config.accumulate * world.size


def resolve(config: TrainConfig, world: World) -> TrainConfig:
    """The settings with the number of steps, where they say epochs; the data set and the labels are opened for it.

    Raises UsageError, InputError: a data set or a folder that is not there, or has no sample. ConfigError: a run
    without end.
    """
    data = None if config.on_scenes_alone else open_training_data(config)
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
    if steps * together > sys.maxsize:
        raise ConfigError(
            f"{length}: so many steps of batch_size x accumulate samples cannot be counted; lower it"
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
        out: folder of the run; made if missing.
        report: called after every step with step, seconds, loss and its parts; a skipped step has no loss.
        tell: called with a line for a person: samples that are left out, checkpoints that could not be written.
        scene_progress: called with (done, total) while missing scenes are made.
        world: this process's place among several.
    """
    world = world or World()
    config = resolve(config, world)
    out.mkdir(parents=True, exist_ok=True)
    log = RunLog(out, config, tell) if world.first else NoLog()
    if world.first:
        remove_leftovers(out)  # of a run that was killed while it saved
    trainer = Trainer(config, out, device, report, world=world, log=log, tell=tell)
    if resume:
        trainer.resume()
    elif world.first and (out / STATE).exists():
        tell(f"{out} holds another run, which this one will replace; --resume would go on with it")
    if world.first:
        prepare_scenes(config, scene_progress)
    world.wait()
    if world.first_here and not world.first:  # on another machine, whose disk may be its own
        prepare_scenes(config, scene_progress)
    world.wait()
    try:
        trainer.run()
    finally:
        if isinstance(log, RunLog):
            log.close()
    return out / LAST


def prepare_scenes(config: TrainConfig, progress: Progress) -> None:
    """Make the procedural scenes that the run lacks, on all cores."""
    if isinstance(config.data, SceneDataConfig):
        ScenePool(config.data).make(os.cpu_count() or 1, progress)


def first_batch(config: TrainConfig) -> dict[str, Tensor]:
    """The first batch of a run, for inspection and tests."""
    config = resolve(config, World())
    samples = stage_of(config).samples(config, config.total_steps * samples_per_step(config, World()))
    batch = collate([samples[i] for i in range(config.batch_size)])
    batch.pop(BROKEN)
    return batch
