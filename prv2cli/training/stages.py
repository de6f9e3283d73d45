"""One step function per training stage: (model, batch) -> StepOutput. The loop knows nothing of their insides."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from prv2cli.config import TrainConfig
from prv2cli.data.procedural import CoarseSamples, RefineSamples, Sample
from prv2cli.losses import log_gradient_loss, silog, weighted_residual_loss

Batch = dict[str, Tensor]


class StepOutput(NamedTuple):
    """The loss to descend and the parts to log."""

    loss: Tensor
    parts: dict[str, Tensor]


class Stage(NamedTuple):
    """What a stage trains on and how it takes a step."""

    samples: Callable[[TrainConfig], Dataset[Sample]]
    step: Callable[[nn.Module, Batch], StepOutput]


def _refine_samples(config: TrainConfig) -> Dataset[Sample]:
    length = config.steps * config.batch_size
    return RefineSamples(config.data, config.degrade, config.seed, length, config.batch_size)


def refine_step(model: nn.Module, batch: Batch) -> StepOutput:
    """Refine a batch of tiles of spoilt coarse maps (behind `given`)."""
    features = model.encode_image(batch["guide_rgb"], batch["guide_depth"])  # type: ignore[operator]
    scenes, tiles = len(batch["guide_rgb"]), len(batch["rgb"])
    index = torch.arange(scenes, device=batch["rgb"].device).repeat_interleave(tiles // scenes)
    refined = model.refine_tiles(batch["rgb"], batch["coarse"], features, batch["box"], index)  # type: ignore[operator]
    ratio = batch["spread_ratio"]
    loss = weighted_residual_loss(refined.float(), batch["truth"], batch["coarse"], ratio)
    with torch.no_grad():
        error = ((refined - batch["truth"]) * ratio).abs().mean()
        coarse_error = ((batch["coarse"] - batch["truth"]) * ratio).abs().mean()
    return StepOutput(loss, {"error": error, "coarse_error": coarse_error})


def _coarse_samples(config: TrainConfig) -> Dataset[Sample]:
    return CoarseSamples(config.data, config.seed, config.steps * config.batch_size)


def coarse_step(model: nn.Module, batch: Batch) -> StepOutput:
    """Supervise a monocular network with SILog, the plain log error (scale counts) and log-gradients."""
    low, high = model.config.min_depth, model.config.max_depth  # type: ignore[union-attr]
    truth = batch["depth"].clamp(low, high)  # type: ignore[arg-type]
    prediction = model(batch["rgb"]).depth
    scale_free = silog(prediction, truth, torch.ones_like(truth, dtype=torch.bool))
    log_error = (prediction.log() - truth.log()).abs().mean()
    gradient = log_gradient_loss(prediction, truth)
    with torch.no_grad():
        abs_rel = ((prediction - truth).abs() / truth).mean()
    loss = 0.1 * scale_free + log_error + 0.25 * gradient
    return StepOutput(loss, {"abs_rel": abs_rel, "silog": scale_free.detach(), "log_error": log_error.detach()})


STAGES: dict[str, Stage] = {
    "refine": Stage(_refine_samples, refine_step),
    "coarse": Stage(_coarse_samples, coarse_step),
}
