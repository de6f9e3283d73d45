"""Noisy Pretraining (PRV2 section 3.1): the refiner learns depth from photographs alone, behind noise.

Guidance features are drawn from N(0, 1) at the sizes of the encoder's levels, the coarse depth is 0. So the stem's
slice for the coarse depth gets no gradient and stays at zero: the network is one of three input channels, and what
is saved is already the widened one that the stage `refine` starts from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prv2cli.model.config import AnyModelConfig, BundleConfig
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.samples.photos import PhotoSamples
from prv2cli.training.stages.base import Batch, Stage, StepOutput, looked_at, truth_loss


def refiner_of(config: TrainConfig) -> AnyModelConfig:
    """The part of the bundle that is trained and saved."""
    assert isinstance(config.model, BundleConfig)
    return config.model.refiner


def pretrain_step(model: nn.Module, batch: Batch, progress: float, config: TrainConfig) -> StepOutput:
    """SILog of the depth of whole photographs, refined from nothing."""
    assert isinstance(model, PatchRefiner)
    depth = predict_from_noise(model, batch["image"], batch["seed"].tolist())
    loss, parts = truth_loss(depth, batch["truth"], config)
    return StepOutput(loss, parts, looked_at(batch["image"], refined=depth, truth=batch["truth"]))


def predict_from_noise(model: PatchRefiner, image: Tensor, seeds: Sequence[int]) -> Tensor:
    """(B, 3, h, w) in 0..1 -> (B, 1, h, w) metres; each photograph's noise comes from its own seed."""
    nothing = image.new_zeros(len(image), 1, *image.shape[-2:])
    return model.refine_cropped(image, nothing, noise_features(model, image, seeds))


def noise_features(model: PatchRefiner, image: Tensor, seeds: Sequence[int]) -> list[Tensor]:
    """Guidance of levels 0, 1, ... for (B, 3, h, w) photographs: N(0, 1), (B, C_k, h / 2^k, w / 2^k)."""
    generators = [torch.Generator(image.device).manual_seed(seed) for seed in seeds]
    features = []
    for level, channels in enumerate(model.config.coarse.channels):
        stride = model.config.encoder.space_to_depth * 2**level
        size = (1, channels, image.shape[-2] // stride, image.shape[-1] // stride)
        noise = [torch.randn(size, generator=generator, device=image.device) for generator in generators]
        features.append(torch.cat(noise))
    return features


NOISY_PRETRAIN = Stage(PhotoSamples, pretrain_step, trained=refiner_of)
