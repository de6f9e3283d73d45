"""The one training loop: data, schedule, EMA, checkpoints, resume. What a step computes is in stages.py."""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from prv2cli import __version__
from prv2cli.atomic import atomic_write
from prv2cli.checkpoint import read_checkpoint, save_checkpoint
from prv2cli.config import AnyModelConfig, RefinerConfig, SceneDataConfig, TrainConfig
from prv2cli.data.procedural import ScenePool, collate
from prv2cli.errors import ConfigError, Prv2Error
from prv2cli.model import build_model
from prv2cli.training.stages import STAGES, Batch

Report = Callable[[dict[str, Any]], None]
MAX_SKIPPED_IN_A_ROW = 20


class Ema:
    """Exponential moving average of a model's floating tensors, warmed up so that early steps do not linger."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up over `warmup` of the run, then a cosine to 1/1000."""
    done = step / config.steps
    warm = min(1.0, (step + 1) / max(1.0, config.optimiser.warmup * config.steps))
    return config.optimiser.lr * warm * max(1e-3, 0.5 + 0.5 * math.cos(math.pi * done))


class Trainer:
    """One run in one folder: `last.safetensors` (EMA weights), `state.pt` (to resume), `log.jsonl`."""

    def __init__(self, config: TrainConfig, out: Path, device: torch.device, report: Report) -> None:
        torch.manual_seed(config.seed)
        # Most pixels of a good tile have next to no gradient; as denormal numbers they slow CPU kernels threefold.
        torch.set_flush_denormal(True)
        self.config, self.out, self.device, self.report = config, out, device, report
        self.model = build_model(config.model).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.start_from:
            self._start_from(config.start_from)
        self.ema = Ema(self.model, config.optimiser.ema)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), config.optimiser.lr, weight_decay=config.optimiser.weight_decay
        )
        self.step = 0
        self.seconds = 0.0

    def _start_from(self, path: Path) -> None:
        checkpoint = read_checkpoint(path)
        if _without_growth(checkpoint.config) != _without_growth(self.config.model):
            raise ConfigError(
                f"start_from: {path} holds another architecture than this configuration's model"
            )
        self.model.load_state_dict(checkpoint.tensors, strict=False)  # what has grown begins as the identity

    def run(self) -> None:
        """Train to the configured number of steps, saving on the way."""
        skipped, last = 0, time.perf_counter()
        for batch in self._batches():
            parts = self._take_step(batch)
            now = time.perf_counter()
            self.seconds, last = self.seconds + now - last, now
            skipped = 0 if parts else skipped + 1
            if skipped >= MAX_SKIPPED_IN_A_ROW:
                raise Prv2Error(
                    f"{skipped} losses in a row were NaN or infinite at step {self.step}; lower optimiser.lr"
                )
            self.step += 1
            self.report({"step": self.step, "seconds": round(self.seconds, 2), **parts})
            if self.step % self.config.save_every == 0 or self.step == self.config.steps:
                self.save()

    def _take_step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; an empty dict when the loss was not finite and the step was skipped."""
        lr = learning_rate(self.config, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.model.train()
        # The forward pass updates BatchNorm's statistics: what a spoilt batch leaves there must be undone.
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            output = STAGES[self.config.stage].step(
                self.model, batch, self.step / self.config.steps, self.config
            )
        self.optimiser.zero_grad(set_to_none=True)
        if not torch.isfinite(output.loss):
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            return {}
        output.loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimiser.clip)
        self.optimiser.step()
        self.ema.update(self.model, self.step)
        return {
            "loss": float(output.loss.detach()),
            "lr": lr,
            **{k: float(v) for k, v in output.parts.items()},
        }

    def _batches(self) -> Iterator[Batch]:
        """The batches still to do. Sample i depends on the seed and i alone, so resuming is skipping."""
        size = self.config.batch_size
        samples = STAGES[self.config.stage].samples(self.config)
        rest = Subset(samples, range(self.step * size, self.config.steps * size))
        loader = DataLoader(
            rest,
            batch_size=size,
            num_workers=self.config.data.workers,
            collate_fn=collate,
            worker_init_fn=_one_thread,
            persistent_workers=False,
            multiprocessing_context="spawn" if self.config.data.workers else None,
        )
        for batch in loader:
            moved = {key: tensor.to(self.device, non_blocking=True) for key, tensor in batch.items()}
            moved["rgb"] = moved["rgb"].contiguous(memory_format=torch.channels_last)
            yield moved

    def save(self) -> None:
        """Write the EMA weights as a model file, and everything a resumed run needs."""
        save_checkpoint(self.out / "last.safetensors", self.ema.model, self.config.model, self.provenance())
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "config": self.config.model_dump_json(),
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with atomic_write(self.out / "state.pt") as file:
            torch.save(state, file)

    def resume(self) -> None:
        """Continue from `state.pt`. Raises ConfigError when there is none or its settings differ."""
        path = self.out / "state.pt"
        if not path.exists():
            raise ConfigError(f"--resume: {path} does not exist; nothing was saved in this folder yet")
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if json.loads(state["config"]) != self.config.model_dump(mode="json"):
            raise ConfigError(f"--resume: the settings differ from those of the run in {self.out}")
        self.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    def provenance(self) -> dict[str, Any]:
        """Where the weights come from, for the header of the model file."""
        return {
            "software": f"prv2cli {__version__}",
            "stage": self.config.stage,
            "step": self.step,
            "training_seconds": round(self.seconds),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s), {self.device.type}",
            "settings": self.config.model_dump(mode="json", exclude={"model"}),
        }


def _without_growth(model: AnyModelConfig) -> AnyModelConfig:
    """The architecture but for what trained weights can be given later: layers that begin as the identity."""
    if not isinstance(model, RefinerConfig):
        return model
    head = model.head.model_copy(update={"dilations": (), "sharpness": 1.0})
    return model.model_copy(update={"head": head})


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def fit(
    config: TrainConfig,
    out: Path,
    *,
    device: torch.device,
    resume: bool = False,
    report: Report = lambda parts: None,
    scene_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Train as configured; returns the model file.

    Args:
        out: folder of the run; made if missing.
        report: called after every step with step, seconds, loss and its parts.
        scene_progress: called with (done, total) while missing scenes are made.
    """
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, out, device, report)
    if resume:
        trainer.resume()
    prepare_scenes(config.data, scene_progress)
    trainer.run()
    return out / "last.safetensors"


def prepare_scenes(data: SceneDataConfig, progress: Callable[[int, int], None]) -> None:
    """Make the scenes that the data set lacks, on all cores."""
    ScenePool(data).make(os.cpu_count() or 1, progress)


def first_batch(config: TrainConfig) -> dict[str, Tensor]:
    """The first batch of a run, for inspection and tests."""
    samples = STAGES[config.stage].samples(config)
    return collate([samples[i] for i in range(config.batch_size)])
