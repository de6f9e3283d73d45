"""A coarse network by itself: `lite` on procedural scenes, any of them on whole photographs of a data set."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.losses.truth import log_gradient_loss
from prv2cli.training.samples.collate import Sample
from prv2cli.training.samples.photos import PhotoSamples
from prv2cli.training.samples.scenes import CoarseSamples
from prv2cli.training.stages.base import Batch, Stage, StepOutput, looked_at, truth_loss


def _scene_samples(config: TrainConfig, length: int) -> Dataset[Sample]:
    assert isinstance(config.data, SceneDataConfig)
    return CoarseSamples(config.data, config.seed, length)


_FAR_OFF = 2.0  # log-ratio from which a relative error grows linearly: e^2 times too far


def scene_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """Supervise a monocular network with the relative error, the error free of scale, and gradients of log-depth.

    The scale of a procedural scene is hardly to be seen in its picture. The relative error teaches what to say then:
    a guess that is too far costs more than one too near. The error after each image's median is taken out teaches
    what can be seen. Gradients come in slowly: an edge in the wrong place costs more than none.
    """
    low, high = model.config.min_depth, model.config.max_depth  # type: ignore[union-attr]
    truth = batch["depth"].clamp(low, high)  # type: ignore[arg-type]
    prediction = model(batch["rgb"]).depth
    ratio = prediction.log() - truth.log()
    relative = _relative_error(ratio).mean()
    offset = ratio.detach().flatten(1).median(dim=1).values.view(-1, 1, 1, 1)
    scale_free = (ratio - offset).abs().mean()
    gradient = log_gradient_loss(prediction, truth)
    with torch.no_grad():
        parts = {
            "abs_rel": ((prediction - truth).abs() / truth).mean(),
            "scale_free": scale_free.detach(),
            "log_error": ratio.abs().mean(),
            "gradient": gradient.detach(),
        }
    pictures = looked_at(batch["rgb"], coarse=prediction, truth=truth)
    return StepOutput(relative + 0.5 * scale_free + 0.1 * progress * gradient, parts, pictures)


def _relative_error(ratio: Tensor) -> Tensor:
    """|prediction / truth - 1| of log-ratios, linear from _FAR_OFF on: a hopeless pixel must not drown the others."""
    near = ratio.clamp(max=_FAR_OFF)
    return (near.exp() - 1).abs() + math.exp(_FAR_OFF) * (ratio - near)


def photo_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """The losses against the truth of whole photographs, at its resolution."""
    prediction = model(batch["image"]).depth
    loss, parts = truth_loss(prediction, batch["truth"], config)
    return StepOutput(loss, parts, looked_at(batch["image"], coarse=prediction, truth=batch["truth"]))


COARSE_ON_SCENES = Stage(_scene_samples, scene_step)
COARSE_ON_PHOTOGRAPHS = Stage(PhotoSamples, photo_step)
