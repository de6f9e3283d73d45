"""The coarse network and its refiner together on random tiles: `refine` of a bundle, and `transfer`.

whole photograph ─ coarse network ─ depth, features ─ cropped to the tile ─┐
tile ──────────────────────────────────────────────── refiner ─────────────┴─ depth ─┬─ SILog with the truth
transfer: teacher (the same way, frozen) or a file ── pseudo-label ──────────────────┴─ detail losses
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.errors import ConfigError
from prv2cli.hub.resolve import resolve
from prv2cli.model.build import Bundle
from prv2cli.model.config import BundleConfig
from prv2cli.model.layers import crop_to_boxes
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.refine.load import load_model
from prv2cli.training.config.losses import Detail, TransferConfig
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.losses.detail import ssi, ssigm
from prv2cli.training.losses.differences import gradient_matching
from prv2cli.training.losses.ranking import edge_guided_ranking
from prv2cli.training.samples.photos import PhotoSamples
from prv2cli.training.stages.base import Batch, Labeller, Stage, StepOutput, looked_at, truth_loss


def end_to_end_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """SILog of the tiles' refined depth; the coarse network learns through it, unless its rate is 0."""
    assert isinstance(model, Bundle)
    refined, coarse = refine_tile(model, batch, frozen=config.optimiser.coarse_lr == 0)
    loss, parts = truth_loss(refined, batch["truth"], config)
    with torch.no_grad():
        _, unrefined = truth_loss(coarse, batch["truth"], config)
        parts["coarse_silog"] = unrefined["silog"]
    pictures = looked_at(batch["rgb"], coarse=coarse, refined=refined, truth=batch["truth"])
    return StepOutput(loss, parts, pictures)


def transfer_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """The same with real, sparse truth, and detail from the pseudo-label."""
    assert isinstance(model, Bundle)
    refined, coarse = refine_tile(model, batch, frozen=config.optimiser.coarse_lr == 0)
    loss, parts = truth_loss(refined, batch["truth"], config)
    for kind in config.transfer.detail:
        detail = detail_loss(kind, refined.float(), batch["pseudo"], batch["seed"].tolist(), config.transfer)
        loss = loss + config.transfer.weight * detail
        parts[kind] = detail.detach()
    pictures = looked_at(batch["rgb"], coarse=coarse, refined=refined, truth=batch["truth"])
    return StepOutput(loss, parts, pictures | {"pseudo-label": batch["pseudo"][0]})


def refine_tile(model: Bundle, batch: Batch, *, frozen: bool) -> tuple[Tensor, Tensor]:
    """One tile of each photograph: refined and coarse depth, (B, 1, h, w) metres at the process size."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        coarse = model.coarse(batch["image"])
    boxes, size = batch["box"], batch["rgb"].shape[-2:]
    index = torch.arange(len(boxes), device=boxes.device)
    # In half precision the sampling points would be off by pixels.
    features = [feature.float() for feature in coarse.features]
    depth = crop_to_boxes(coarse.depth.float(), boxes, index, size)
    refiner = model.refiner
    assert isinstance(refiner, PatchRefiner)
    return refiner.refine_cropped(batch["rgb"], depth, refiner.crop(features, boxes, index, size)), depth


def detail_loss(
    kind: Detail, prediction: Tensor, pseudo: Tensor, seeds: list[int], config: TransferConfig
) -> Tensor:
    """One of the detail losses (losses/detail.py, losses/ranking.py).

    Args:
        prediction: (B, 1, h, w) metres. pseudo: (B, 1, H, W), 0 = none. seeds: of what is drawn for each tile.
    """
    valid = pseudo > 0
    if kind == "ssi":
        return ssi(prediction, pseudo, valid)
    if kind == "ssigm":
        return ssigm(prediction, pseudo, valid)
    if kind == "ssigm-local":
        return ssigm(prediction, pseudo, valid, window=config.window)
    if kind == "gradient-matching":
        return gradient_matching(prediction, pseudo, valid, exact=config.exact)
    trusted = F.interpolate(valid.float(), prediction.shape[-2:], mode="nearest") > 0
    tiles = zip(prediction.split(1), pseudo.split(1), trusted.split(1), seeds, strict=True)
    losses = [
        edge_guided_ranking(
            p, label, mask, torch.Generator().manual_seed(seed), anchors=config.anchors, unit=config.unit
        )
        for p, label, mask, seed in tiles
    ]
    return torch.stack(losses).mean()


def frozen_teacher(config: TrainConfig, device: torch.device) -> Labeller | None:
    """What adds the teacher's depth to a batch as "pseudo"; None where pseudo-labels are read from disk.

    Raises ConfigError: no bundle, or one of another process size. UsageError, CheckpointError: no such model.
    """
    name = config.transfer.teacher
    if name is None:
        return None
    checkpoint = load_model(resolve(name))
    if not isinstance(checkpoint.config, BundleConfig):
        raise ConfigError(f"transfer.teacher: {name} is a {checkpoint.config.kind}; a bundle is needed")
    if checkpoint.config.process_size != config.process_size:
        raise ConfigError(
            f"transfer.teacher: {name} runs at {list(checkpoint.config.process_size)}, "
            f"the student at model.process_size {list(config.process_size)}; they see the same tiles"
        )
    teacher = checkpoint.build().to(device).requires_grad_(False)
    assert isinstance(teacher, Bundle)

    @torch.no_grad()
    def label(batch: Batch) -> Batch:
        return {**batch, "pseudo": refine_tile(teacher, batch, frozen=True)[0].float()}

    return label


END_TO_END = Stage(PhotoSamples, end_to_end_step)
TRANSFER = Stage(PhotoSamples, transfer_step, labeller=frozen_teacher)
