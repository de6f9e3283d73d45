"""A coarse network by itself: `lite` on procedural scenes, any of them on whole photographs of a data set."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import Dataset

from prv2cli.data.procedural import CoarseSamples, Sample
from prv2cli.losses import log_gradient_loss, silog
from prv2cli.train_config import SceneDataConfig, TrainConfig
from prv2cli.training.stages.base import Batch, Stage, StepOutput, looked_at, truth_loss
from prv2cli.training.stages.pretrain import photo_samples


def _scene_samples(config: TrainConfig, length: int) -> Dataset[Sample]:
    assert isinstance(config.data, SceneDataConfig)
    return CoarseSamples(config.data, config.seed, length)


def scene_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """Supervise a monocular network with SILog of each image and gradients of log-depth; the metre counts little.

    The scale of a procedural scene is hardly to be seen in its picture: asked for with full weight, it drowns what
    can be learned. Gradients come in slowly: an edge in the wrong place costs more than none.
    """
    low, high = model.config.min_depth, model.config.max_depth  # type: ignore[union-attr]
    truth = batch["depth"].clamp(low, high)  # type: ignore[arg-type]
    prediction = model(batch["rgb"]).depth
    everywhere = torch.ones_like(truth[0], dtype=torch.bool)
    scale_free = torch.stack([silog(p, t, everywhere) for p, t in zip(prediction, truth, strict=True)]).mean()
    log_error = (prediction.log() - truth.log()).abs().mean()
    gradient = log_gradient_loss(prediction, truth)
    with torch.no_grad():
        parts = {
            "abs_rel": ((prediction - truth).abs() / truth).mean(),
            "silog": scale_free.detach(),
            "log_error": log_error.detach(),
            "gradient": gradient.detach(),
        }
    pictures = looked_at(batch["rgb"], coarse=prediction, truth=truth)
    return StepOutput(0.1 * scale_free + 0.1 * log_error + 0.2 * progress * gradient, parts, pictures)


def photo_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """The losses against the truth of whole photographs, at its resolution."""
    prediction = model(batch["image"]).depth
    loss, parts = truth_loss(prediction, batch["truth"], config)
    return StepOutput(loss, parts, looked_at(batch["image"], coarse=prediction, truth=batch["truth"]))


COARSE_ON_SCENES = Stage(_scene_samples, scene_step)
COARSE_ON_PHOTOGRAPHS = Stage(photo_samples, photo_step)
