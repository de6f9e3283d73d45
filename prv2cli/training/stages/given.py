"""A refiner behind any coarse map, on tiles of procedural scenes whose depth was spoilt (data/degrade.py)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from prv2cli.data.procedural import RefineSamples, Sample
from prv2cli.losses import drift_loss, weighted_residual_loss
from prv2cli.model.patchrefiner import PatchRefiner
from prv2cli.train_config import SceneDataConfig, TrainConfig
from prv2cli.training.stages.base import Batch, Stage, StepOutput, looked_at

AUXILIARY_WEIGHT = 0.5
CASCADES = ((), (), (2,), ())  # dealt to the tiles in turn: the passes before the one that learns


def _samples(config: TrainConfig, length: int) -> Dataset[Sample]:
    assert isinstance(config.data, SceneDataConfig)
    # Samples of one step share a guide size: those of all processes and of all batches that are added up.
    together = length // config.total_steps
    return RefineSamples(config.data, config.degrade, config.seed, length, together)


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
        # As depth of the image's own scale, for the eye.
        depths = {"coarse": coarse, "refined": coarse + out.residual.float(), "truth": batch["truth"]}
        views = {name: normalised[:1].exp() for name, normalised in depths.items()}
    loss = main + AUXILIARY_WEIGHT * auxiliary + config.refine.drift_weight * drift
    return StepOutput(loss, parts, looked_at(batch["rgb"], **views))


@torch.no_grad()
def _after_reduced_passes(model: PatchRefiner, batch: Batch, guide: list[Tensor], index: Tensor) -> Tensor:
    """The coarse depth of the tiles, for most of them as the passes at reduced size hand it on (see inference.py).

    A network that never saw its own output sharpens it once more where nothing is left to sharpen.
    """
    were_training = [part for part in model.modules() if part.training]
    model.eval()  # BatchNorm's statistics are of the pass that learns
    coarse = batch["coarse"].clone()
    turn = torch.arange(len(coarse), device=coarse.device) % len(CASCADES)
    for divisor in sorted({divisor for passes in CASCADES for divisor in passes}, reverse=True):
        chosen = torch.stack([turn == k for k, passes in enumerate(CASCADES) if divisor in passes]).any(0)
        coarse[chosen] = _pass_at(divisor, model, batch, coarse, guide, index, chosen)
    for part in were_training:
        part.training = True
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


REFINE_GIVEN = Stage(_samples, refine_step)
