"""Noisy Pretraining: what it writes, and that it recovers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_loop import built, configured
from training_runs import (
    PROCESS,
)

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.training.losses.truth import silog
from prv2cli.training.stages.pretrain import noise_features, predict_from_noise


def test_pretraining_writes_a_refiner_whose_stem_ignores_the_coarse_depth(runs: Path) -> None:
    checkpoint = read_checkpoint(runs / "noisy-pretrain" / "last.safetensors")
    refiner = checkpoint.build()
    assert isinstance(refiner, PatchRefiner)
    assert refiner.config.coarse.kind == "external"
    stem = next(part for part in refiner.encoder.modules() if isinstance(part, torch.nn.Conv2d)).weight
    assert stem.shape[1] == 4
    assert torch.equal(stem[:, 3], torch.zeros_like(stem[:, 3]))
    assert stem[:, :3].abs().sum() > 0


def test_pretraining_recovers_from_a_network_that_says_nothing(data: Path) -> None:
    """With every pixel at 0 metres a ReLU has no gradient."""
    refiner = built(configured(data, "noisy-pretrain")).refiner
    assert isinstance(refiner, PatchRefiner)
    weight = refiner.head.to_residual.weight  # type: ignore[union-attr]
    with torch.no_grad():
        weight.copy_(-weight.abs())  # type: ignore[operator]
    image, truth = torch.rand(2, 3, *PROCESS), torch.full((2, 1, *PROCESS), 2.0)
    optimiser = torch.optim.Adam(refiner.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        depth = predict_from_noise(refiner, image, [1, 2])
        loss = silog(depth, truth, truth > 0)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[0] > 60  # all at 0
    assert losses[-1] < 20


def test_noise_depends_on_each_sample_alone(data: Path) -> None:
    refiner = built(configured(data, "refine")).refiner
    assert isinstance(refiner, PatchRefiner)
    image = torch.rand(2, 3, 64, 96)
    together = noise_features(refiner, image, [3, 4])
    for level, (feature, alone) in enumerate(
        zip(together, noise_features(refiner, image[1:], [4]), strict=True)
    ):
        assert feature.shape == (2, refiner.config.coarse.channels[level], 64 >> level, 96 >> level)
        assert torch.equal(feature[1:], alone)
    values = torch.cat([feature.flatten() for feature in together])
    assert abs(float(values.mean())) < 0.02
    assert float(values.std()) == pytest.approx(1, abs=0.02)
