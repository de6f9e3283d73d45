"""The one training loop: precision, schedule, several processes, evaluation, checkpoints, resume.

What a step computes is in stages/, what it is fed comes from batches.py. One step, in each of the processes:

    accumulate x ( batch_size samples ─ labeller ─ stage.step ─ loss ─ backward )
    ─ mean of the gradients over the processes ─ clip ─ optimiser ─ mean of the weights
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli.checkpoints.model_file import Checkpoint, save_checkpoint
from prv2cli.errors import DeviceError, OutputError, Prv2Error
from prv2cli.machine.memory import ran_out_of_memory
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.evaluate import AnyEvaluator, make_evaluator
from prv2cli.training.logs import Log, NoLog, picture_strip
from prv2cli.training.loop.batches import Tell, steps
from prv2cli.training.loop.distributed import World
from prv2cli.training.loop.forward import wrapped
from prv2cli.training.loop.optimise import (
    Ema,
    decay_start,
    make_optimiser,
    parameter_groups,
    rates,
    set_rates,
    set_training_mode,
)
from prv2cli.training.loop.state import BEST, LAST, PLATEAU, STATE, check_same_run, read_state, write_state
from prv2cli.training.stages.table import Batch, StepOutput, stage_of
from prv2cli.training.start import build_to_train
from prv2cli.version import __version__

Report = Callable[[dict[str, Any]], None]
MAX_SKIPPED_IN_A_ROW = 20
FIRST_SCALE = (
    2.0**12
)  # of fp16 losses; torch's 2^16 begins with skipped steps, as SILog is of the order of 10


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
        start: Checkpoint | None = None,
    ) -> None:
        """start: weights to start from, in place of those of `start_from`."""
        torch.manual_seed(config.seed)
        # Most pixels of a good tile have next to no gradient; as denormal numbers they slow CPU kernels threefold.
        torch.set_flush_denormal(True)
        self.config, self.out, self.device, self.report = config, out, device, report
        self.world, self.log, self.tell = world or World(), log or NoLog(), tell
        stage = stage_of(config)
        self.trained = stage.trained(config)
        model = build_to_train(config, self.trained, start).to(device)
        self.model: nn.Module = model.to(memory_format=torch.channels_last) if config.channels_last else model
        self.groups = parameter_groups(self.model, config.optimiser)
        self.optimiser = make_optimiser(self.groups, config.optimiser)
        self.scaler = torch.amp.GradScaler(device.type, FIRST_SCALE, enabled=config.precision == "fp16")
        self.ema = Ema(self.model, config.optimiser.ema)
        self.labeller = stage.labeller(config, device)
        self.evaluator = make_evaluator(config, self.trained, device, tell) if self.world.first else None
        self.model, self.forward = wrapped(self.model, config, self.world, device)
        self.step = self.skipped = 0
        self.seconds = 0.0
        self.best = math.inf
        self._saved_step: int | None = None
        self.start = start
        self.outdated: list[
            Path
        ] = []  # files of the run that this one replaces, until it has some of its own

    def run(self) -> None:
        """Train to the configured number of steps, evaluating and saving on the way.

        Raises:
            DeviceError: out of memory. OutputError: the last step could not be saved. InputError: too many samples
            cannot be read. Prv2Error: losses stay NaN or infinite, or a process that makes samples was killed.
        """
        try:
            self._run()
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            raise DeviceError(
                f"{self.device} ran out of memory; lower batch_size (now {self.config.batch_size}; accumulate makes up "
                "for it) or the sizes of the model, tiles and photographs"
            ) from error

    def _run(self) -> None:
        in_a_row, last = 0, time.perf_counter()
        for batches in steps(self.config, self.world, self.device, self.tell, done=self.step):
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
            on_plateau = self.config.optimiser.schedule == "plateau" and self.step == decay_start(self.config)
            if on_plateau and self.world.first:
                self._try_to_save(lambda: write_state(self.out / PLATEAU, self._state()))
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

    def _evaluate_if_due(self) -> None:
        if self.evaluator is not None and self.evaluator.due(self.step):
            try:
                self._evaluate(self.evaluator)
            except Prv2Error as error:  # a run of days is worth more than a figure
                self.tell(f"step {self.step} could not be measured ({error}); the run goes on")
        evaluation = self.config.evaluation
        if evaluation and (self.step % evaluation.every == 0 or self.step == self.config.total_steps):
            self.world.wait()

    def _evaluate(self, evaluator: AnyEvaluator) -> None:
        """Measure the model, and keep it where it is the best one."""
        report = evaluator.measure(self.ema.model)
        self.log.evaluated(self.step, report.to_json()["means"])
        score = evaluator.score(report)
        if math.isnan(score):
            wanted = self.config.evaluation.best if self.config.evaluation else "what unseen maps tell"
            self.tell(f"evaluation.best: {wanted} could not be measured at step {self.step}")
        if score < self.best and self._try_to_save(lambda: self._save_model(BEST)):
            self.best = score
            self.outdated = [path for path in self.outdated if path.name != BEST]

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
        for path in self.outdated:
            path.unlink(missing_ok=True)
        self.outdated = []

    def _save_model(self, name: str) -> None:
        save_checkpoint(
            self.out / name, self.ema.model, self.trained, self.provenance(), half=self.config.half
        )

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
            **({} if self.start is None else {"started_from": _told(self.start)}),
        }


def _told(start: Checkpoint) -> dict[str, Any]:
    """Weights that came from elsewhere, without the folder that they lay in."""
    return {"file": Path(start.name).name, "sha256": start.sha256, "step": start.provenance.get("step")}
