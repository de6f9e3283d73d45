"""One step function per training stage: (model, batch, share of the run done, settings) -> StepOutput.

The loop knows nothing of their insides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from prv2cli.config import TrainConfig
from prv2cli.data.procedural import CoarseSamples, RefineSamples, Sample
from prv2cli.losses import drift_loss, log_gradient_loss, silog, weighted_residual_loss
from prv2cli.model.patchrefiner import PatchRefiner

Batch = dict[str, Tensor]
AUXILIARY_WEIGHT = 0.5
CASCADES = ((), (), (2,), ())  # dealt to the tiles in turn: the passes before the one that learns


class StepOutput(NamedTuple):
    """The loss to descend and the parts to log."""

    loss: Tensor
    parts: dict[str, Tensor]


class Stage(NamedTuple):
    """What a stage trains on and how it takes a step."""

    samples: Callable[[TrainConfig], Dataset[Sample]]
    step: Callable[[nn.Module, Batch, float, TrainConfig], StepOutput]


def _refine_samples(config: TrainConfig) -> Dataset[Sample]:
    length = config.steps * config.batch_size
    return RefineSamples(config.data, config.degrade, config.seed, length, config.batch_size)


def refine_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """Refine a batch of tiles of spoilt coarse maps (behind `given`).

    C2F's auxiliary depth is asked for the residual too: its features then learn before the head has found its two
    surfaces.
    """
    assert isinstance(model, PatchRefiner)
    scenes, tiles = len(batch["guide_rgb"]), len(batch["rgb"])
    index = torch.arange(scenes, device=batch["rgb"].device).repeat_interleave(tiles // scenes)
    guide = model.encode_image(batch["guide_rgb"], batch["guide_depth"])
    coarse = batch["coarse"]
    if progress >= config.refine.cascade_from:
        coarse = _after_reduced_passes(model, batch, guide, index)
    features = model.crop(guide, batch["box"], index, batch["rgb"].shape[-2:])
    out = model.residual(batch["rgb"], coarse, features)
    # All in the image's own spread: the jitter of the normalisation must not change what counts as an error.
    ratio = batch["spread_ratio"]
    target, residual = (batch["truth"] - coarse) * ratio, out.residual.float() * ratio
    smooth = progress < config.refine.smooth_until
    weight = config.refine.hard_weight
    main = weighted_residual_loss(residual, target, smooth=smooth, hard_weight=weight)
    drift = drift_loss(residual, target)
    stride = target.shape[-1] // out.auxiliary_depth.shape[-1]  # of level 0
    auxiliary = weighted_residual_loss(
        out.auxiliary_depth.float() * ratio, F.avg_pool2d(target, stride), smooth=True
    )
    with torch.no_grad():
        parts = {
            "main": main.detach(),
            "auxiliary": auxiliary.detach(),
            "drift": drift.detach(),
            "unrefined": weighted_residual_loss(
                torch.zeros_like(target), target, smooth=smooth, hard_weight=weight
            ),
            "error": (residual - target).abs().mean(),
            "coarse_error": target.abs().mean(),
            "first_error": (residual - target)[:: len(CASCADES)]
            .abs()
            .mean(),  # tiles that were not refined before
            "first_coarse_error": target[:: len(CASCADES)].abs().mean(),
        }
    return StepOutput(main + AUXILIARY_WEIGHT * auxiliary + config.refine.drift_weight * drift, parts)


@torch.no_grad()
def _after_reduced_passes(model: PatchRefiner, batch: Batch, guide: list[Tensor], index: Tensor) -> Tensor:
    """The coarse depth of the tiles, for most of them as the passes at reduced size hand it on (see inference.py).

    A network that never saw its own output sharpens it once more where nothing is left to sharpen.
    """
    was_training = model.training
    model.eval()  # BatchNorm's statistics are of the pass that learns
    coarse = batch["coarse"].clone()
    turn = torch.arange(len(coarse), device=coarse.device) % len(CASCADES)
    for divisor in sorted({divisor for passes in CASCADES for divisor in passes}, reverse=True):
        chosen = torch.stack([turn == k for k, passes in enumerate(CASCADES) if divisor in passes]).any(0)
        coarse[chosen] = _pass_at(divisor, model, batch, coarse, guide, index, chosen)
    model.train(was_training)
    return coarse


def _pass_at(
    divisor: int,
    model: PatchRefiner,
    batch: Batch,
    coarse: Tensor,
    guide: list[Tensor],
    index: Tensor,
    chosen: Tensor,
) -> Tensor:
    rgb, depth = (F.avg_pool2d(t[chosen], divisor) for t in (batch["rgb"], coarse))
    refined = model.refine_tiles(rgb, depth, guide, batch["box"][chosen], index[chosen])
    return F.interpolate(refined, size=coarse.shape[-2:], mode="bilinear", align_corners=False)


def _coarse_samples(config: TrainConfig) -> Dataset[Sample]:
    return CoarseSamples(config.data, config.seed, config.steps * config.batch_size)


def coarse_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
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
    return StepOutput(0.1 * scale_free + 0.1 * log_error + 0.2 * progress * gradient, parts)


STAGES: dict[str, Stage] = {
    "refine": Stage(_refine_samples, refine_step),
    "coarse": Stage(_coarse_samples, coarse_step),
}
