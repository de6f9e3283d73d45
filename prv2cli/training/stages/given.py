"""A refiner behind any coarse map, on tiles of procedural scenes whose depth was spoilt (data/degrade.py)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from prv2cli.data.procedural import RefineSamples, Sample
from prv2cli.losses import drift_loss, edge_loss, weighted_residual_loss
from prv2cli.model.patchrefiner import PatchRefiner
from prv2cli.train_config import SceneDataConfig, TrainConfig
from prv2cli.training.stages.base import Batch, Stage, StepOutput, looked_at

AUXILIARY_WEIGHT = 0.5
REDUCED = 2  # divisor of the tile's size, for the pass before the one that learns


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
        coarse = _after_reduced_pass(model, batch, guide, index)
    features = model.crop(guide, batch["box"], index, batch["rgb"].shape[-2:])
    out = model.residual(batch["rgb"], coarse, features)
    # All in the image's own spread: the jitter of the normalisation must not change what counts as an error.
    ratio = batch["spread_ratio"]
    target, residual = (batch["truth"] - coarse) * ratio, out.residual.float() * ratio
    smooth = progress < config.refine.smooth_until
    weight = config.refine.hard_weight
    main = weighted_residual_loss(residual, target, smooth=smooth, hard_weight=weight)
    drift = drift_loss(residual, target)
    edge = edge_loss(residual, target, batch["truth"] * ratio)
    stride = target.shape[-1] // out.auxiliary_depth.shape[-1]  # of level 0
    auxiliary = weighted_residual_loss(
        out.auxiliary_depth.float() * ratio, F.avg_pool2d(target, stride), smooth=True
    )
    with torch.no_grad():
        parts = {
            "main": main.detach(),
            "auxiliary": auxiliary.detach(),
            "drift": drift.detach(),
            "edge": edge.detach(),
            "unrefined": weighted_residual_loss(
                torch.zeros_like(target), target, smooth=smooth, hard_weight=weight
            ),
            "error": (residual - target).abs().mean(),
            "coarse_error": target.abs().mean(),
        }
        # As depth of the image's own scale, for the eye.
        depths = {"coarse": coarse, "refined": coarse + out.residual.float(), "truth": batch["truth"]}
        views = {name: normalised[:1].exp() for name, normalised in depths.items()}
    course = config.refine
    loss = main + AUXILIARY_WEIGHT * auxiliary + course.drift_weight * drift + course.edge_weight * edge
    return StepOutput(loss, parts, looked_at(batch["rgb"], **views))


@torch.no_grad()
def _after_reduced_pass(model: PatchRefiner, batch: Batch, guide: list[Tensor], index: Tensor) -> Tensor:
    """The coarse depth of the tiles; of those with wide edges as the pass at half size hands it on (inference.py).

    A network that never saw its own output sharpens it once more where nothing is left to sharpen.
    """
    wide, coarse = batch["wide"], batch["coarse"]
    if not bool(wide.any()):
        return coarse
    were_training = [part for part in model.modules() if part.training]
    model.eval()  # BatchNorm's statistics are of the pass that learns
    rgb, depth = (F.avg_pool2d(t[wide], REDUCED) for t in (batch["rgb"], coarse))
    features = model.crop(guide, batch["box"][wide], index[wide], rgb.shape[-2:])
    refined = model.refine_cropped(rgb, depth, features, steeper=REDUCED)
    for part in were_training:
        part.training = True
    coarse = coarse.clone()
    coarse[wide] = F.interpolate(refined, size=coarse.shape[-2:], mode="bilinear", align_corners=False).to(
        coarse.dtype
    )
    return coarse


REFINE_GIVEN = Stage(_samples, refine_step)
