"""A coarse network on a mixture of photographs whose depth is in metres, up to scale, or up to scale and shift."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from prv2cli.datasets.rgbd import Knowledge
from prv2cli.training.config.mixture import MixtureData
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.losses.relative import (
    doubt_loss,
    log_ratio,
    mean_of,
    scale_and_shift_invariant,
    scale_error,
    scale_invariant,
)
from prv2cli.training.samples.collate import Sample
from prv2cli.training.samples.mixture import MixedSamples
from prv2cli.training.stages.base import Batch, Stage, StepOutput, looked_at

_GRADIENT, _LOG, _METRES, _DOUBT = 0.5, 1.0, 1.0, 0.05
NO_METRES = 1.0  # expected error of the scale, in natural log, where the data has no metres: nearly threefold


def _samples(config: TrainConfig, length: int) -> Dataset[Sample]:
    assert isinstance(config.data, MixtureData)
    return MixedSamples(config.data, config.seed, length, length // config.total_steps)


def mixture_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """Every image teaches its shape as inverse depth; those with a scale also log-depth; those in metres the scale.

    The doubt learns from all: how far the scale of a photograph in metres is off, and that there are none elsewhere.
    """
    output = model(batch["image"])
    log_depth = output.depth.float().log()
    inverse, known = batch["inverse"], batch["known"]
    shape, gradient = scale_and_shift_invariant(torch.exp(-log_depth), inverse, known)
    scaled = batch["knowledge"] != Knowledge.UP_TO_SCALE_AND_SHIFT
    metres = batch["knowledge"] == Knowledge.METRES
    ratio, comparable = log_ratio(log_depth, inverse, known & scaled.view(-1, 1, 1, 1))
    off = scale_error(ratio, comparable)
    log_error = scale_invariant(ratio, comparable, off)
    metric = mean_of(ratio, comparable) * metres
    loss = shape + _GRADIENT * gradient + _LOG * log_error + _METRES * metric
    parts = {
        "shape": shape,
        "gradient": gradient,
        "log_error": _mean_where(log_error, scaled),
        "metric": _mean_where(metric, metres),
        "scale_error": _mean_where(off.abs(), metres),
    }
    if output.log_doubt is not None:
        doubt = output.log_doubt.float()
        loss = loss + _DOUBT * doubt_loss(doubt, torch.where(metres, off.abs(), NO_METRES))
        parts["doubt_in_metres"] = _mean_where(doubt.exp(), metres)
        parts["doubt_elsewhere"] = _mean_where(doubt.exp(), ~metres)
    truth = torch.where(known & (inverse > 0), 1 / inverse.clamp_min(1e-6), 0)
    pictures = looked_at(batch["image"], coarse=output.depth, truth=truth)
    return StepOutput(loss.mean(), {name: part.detach().mean() for name, part in parts.items()}, pictures)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Of the images that it is about; 0 where the batch has none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


COARSE_ON_MIXTURE = Stage(_samples, mixture_step)
