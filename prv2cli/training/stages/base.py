"""What a stage of training is, and the losses against the truth that stages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from prv2cli.model.config import AnyModelConfig
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.losses.differences import gradient_matching
from prv2cli.training.losses.truth import silog, usable_depths

Batch = dict[str, Tensor]
Pictures = dict[str, Tensor]


class StepOutput(NamedTuple):
    """The loss to descend, the parts to log, and views of the batch's first sample to be looked at.

    pictures: "photograph" (3, H, W) in 0..1; "coarse", "refined", "truth" (1, h, w) depths of one unit, 0 = none.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    pictures: Mapping[str, Tensor] = MappingProxyType({})


Step = Callable[[nn.Module, Batch, float, TrainConfig], StepOutput]
Labeller = Callable[[Batch], Batch]


class Stage(NamedTuple):
    """What a stage trains on and how it takes a step.

    samples: (settings, how many) -> a data set of dictionaries of tensors.
    step: (model, batch, share of the run done, settings) -> StepOutput.
    trained: the settings of what is trained and saved: the whole model, or a part of it.
    labeller: what adds labels to a batch that are made on the fly, if anything does.
    """

    samples: Callable[[TrainConfig, int], Dataset[Any]]
    step: Step
    trained: Callable[[TrainConfig], AnyModelConfig] = lambda config: config.model
    labeller: Callable[[TrainConfig, torch.device], Labeller | None] = lambda config, device: None


def truth_loss(prediction: Tensor, truth: Tensor, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses against the truth, and its parts.

    Args:
        prediction: (B, 1, h, w) metres. truth: (B, 1, H, W) metres, 0 = not known.
    """
    losses, sampling = config.losses, config.sampling
    prediction = prediction.float()
    valid = usable_depths(truth, sampling.min_depth, sampling.max_depth)
    if losses.over == "batch":
        spread = silog(prediction, truth, valid)
    else:
        images = zip(prediction.split(1), truth.split(1), valid.split(1), strict=True)
        spread = torch.stack([silog(p, t, v) for p, t, v in images]).mean()
    total, parts = losses.silog * spread, {"silog": spread.detach()}
    if losses.gradient_matching > 0:
        gradient = gradient_matching(prediction, truth, valid, exact=losses.exact)
        total = total + losses.gradient_matching * gradient
        parts["gradient_matching"] = gradient.detach()
    return total, parts


def looked_at(photograph: Tensor, **depths: Tensor) -> Pictures:
    """The first of each batch, for StepOutput.pictures."""
    return {"photograph": photograph[0].detach(), **{name: d[0].detach() for name, d in depths.items()}}
