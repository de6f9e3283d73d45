"""A refiner behind any coarse map, on tiles of procedural scenes whose depth was spoilt (samples/degrade.py)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from prv2cli.model.refiner.patchrefiner import PatchRefiner, Residual
from prv2cli.tiling.plan import REDUCED
from prv2cli.training.config.losses import RefineStageConfig
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.losses.residual import drift_loss, edge_loss, weighted_residual_loss
from prv2cli.training.samples.collate import Sample
from prv2cli.training.samples.scenes import RefineSamples
from prv2cli.training.stages.base import Batch, Stage, StepOutput, looked_at

AUXILIARY_WEIGHT = 0.5


def _samples(config: TrainConfig, length: int) -> Dataset[Sample]:
    assert isinstance(config.data, SceneDataConfig)
    # Samples of one step share a guide size: those of all processes and of all batches that are added up.
    together = length // config.total_steps
    return RefineSamples(config.data, config.degrade, config.seed, length, together, config.maps)


class _Target(NamedTuple):
    """What a pass over tiles is asked for.

    `ratio` undoes the jitter of the normalisation, which must not change what counts as an error.
    """

    coarse: Tensor  # (B, 1, H, W) normalised log-depth
    truth: Tensor  # the same
    ratio: Tensor  # (B, 1, 1, 1)


def refine_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """Refine a batch of tiles of spoilt coarse maps (behind `given`).

    As in use (refine/refiner.py), tiles with wide edges go through a pass at half size first, which learns as well.
    """
    assert isinstance(model, PatchRefiner)
    scenes, tiles = len(batch["guide_rgb"]), len(batch["rgb"])
    index = torch.arange(scenes, device=batch["rgb"].device).repeat_interleave(tiles // scenes)
    known = [batch["character"]] if config.tells_character else []
    guide = model.encode_image(batch["guide_rgb"], batch["guide_depth"], *known)
    smooth = progress < config.refine.smooth_until
    target = _Target(batch["coarse"], batch["truth"], batch["spread_ratio"])
    reduced, wide = target.coarse.new_zeros(()), batch["wide"]
    if progress >= config.refine.cascade_from and bool(wide.any()):
        reduced, refined = _reduced_pass(model, batch, guide, index, smooth, config)
        target = target._replace(coarse=target.coarse.masked_scatter(wide[:, None, None, None], refined))
    features = model.crop(guide, batch["box"], index, batch["rgb"].shape[-2:])
    out = model.residual(batch["rgb"], target.coarse, features)
    loss, parts = _losses(out, target, smooth, config)
    with torch.no_grad():
        # As depth of the image's own scale, for the eye.
        depths = {"coarse": target.coarse, "refined": target.coarse + out.residual, "truth": target.truth}
        views = {name: normalised[:1].float().exp() for name, normalised in depths.items()}
    parts["reduced"] = reduced.detach()
    return StepOutput(loss + reduced, parts, looked_at(batch["rgb"], **views))


def _losses(
    out: Residual, asked: _Target, smooth: bool, config: TrainConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses of a pass, and its parts.

    C2F's auxiliary depth is asked for the residual too: its features then learn before the head has found its two
    surfaces.
    """
    ratio = asked.ratio
    # Until it has features, a network that is held to means and steps copies the coarse map, and stays there.
    course = RefineStageConfig() if smooth else config.refine
    target, residual = (asked.truth - asked.coarse) * ratio, out.residual.float() * ratio
    main = weighted_residual_loss(residual, target, smooth=smooth, hard_weight=course.hard_weight)
    drift, edge = drift_loss(residual, target), edge_loss(residual, target, asked.truth * ratio)
    stride = target.shape[-1] // out.auxiliary_depth.shape[-1]  # of level 0
    auxiliary = weighted_residual_loss(
        out.auxiliary_depth.float() * ratio, F.avg_pool2d(target, stride), smooth=True
    )
    with torch.no_grad():
        nothing = torch.zeros_like(target)
        parts = {
            "main": main.detach(),
            "auxiliary": auxiliary.detach(),
            "drift": drift.detach(),
            "edge": edge.detach(),
            "unrefined": weighted_residual_loss(
                nothing, target, smooth=smooth, hard_weight=course.hard_weight
            ),
            "error": (residual - target).abs().mean(),
            "coarse_error": target.abs().mean(),
        }
    loss = main + AUXILIARY_WEIGHT * auxiliary + course.drift_weight * drift + course.edge_weight * edge
    return loss, parts


def _reduced_pass(
    model: PatchRefiner,
    batch: Batch,
    guide: list[Tensor],
    index: Tensor,
    smooth: bool,
    config: TrainConfig,
) -> tuple[Tensor, Tensor]:
    """The pass at half size over the tiles with wide edges: its loss, as a share of the batch, and what it hands on.

    A network that never saw its own output sharpens it once more where nothing is left to sharpen.
    """
    wide = batch["wide"]
    rgb, coarse = (F.avg_pool2d(batch[key][wide], REDUCED) for key in ("rgb", "coarse"))
    features = model.crop(guide, batch["box"][wide], index[wide], rgb.shape[-2:])
    were_training = [part for part in model.modules() if part.training]
    model.eval()  # BatchNorm's statistics are of the pass at full size, and of more tiles
    out = model.residual(rgb, coarse, features, steeper=REDUCED)
    for part in were_training:
        part.training = True
    asked = _Target(coarse, _reduce_depth(batch["truth"][wide]), batch["spread_ratio"][wide])
    loss, _ = _losses(out, asked, smooth, config)
    refined = (coarse + out.residual.float()).detach()
    size = batch["coarse"].shape[-2:]
    return loss * wide.float().mean(), F.interpolate(refined, size=size, mode="bilinear", align_corners=False)


def _reduce_depth(depth: Tensor) -> Tensor:
    """(B, 1, H, W) at half size: of each four depths the second nearest, as in scenes/make.py, never a mean."""
    quarters = [depth[..., y::REDUCED, x::REDUCED] for y in range(REDUCED) for x in range(REDUCED)]
    return torch.stack(quarters).median(dim=0).values


REFINE_GIVEN = Stage(_samples, refine_step)
