"""Maps for the tests of losses: those of the authors' values, and random ones; a loss's gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from golden_rules import Golden, uniform
from torch import Tensor

from prv2cli.training.losses.truth import usable_depths

MIN_DEPTH, MAX_DEPTH = 1e-3, 80.0
VALUE = 1e-5  # relative: float32 sums in another order
GRADIENT = 2e-5  # of the largest
Maps = tuple[Tensor, Tensor, Tensor]  # prediction, truth (metres), mask


class Case:
    """The reference inputs: two maps of 48 x 64 px, a tenth of the truth missing, some of it beyond 80 m."""

    def __init__(self, golden: Golden) -> None:
        self.golden, self.values = golden, golden.meta["values"]
        shape = (2, 1, 48, 64)
        truth = self.draw("gt", shape, 0.5, 95.0)
        truth[self.draw("drop", shape, 0, 1) < 0.1] = 0
        known = torch.where(truth > 0, truth, 10.0)
        self.truth = truth
        self.prediction = self.draw("pred", shape, 0.5, 90.0) * float(np.float32(0.3)) + known * float(
            np.float32(0.7)
        )
        self.small = self.draw("pred_lr", (2, 1, 24, 32), 0.5, 90.0)
        self.pseudo = self.draw("pseudo", shape, 0.1, 5.0) + 0.05 * self.prediction
        self.valid = usable_depths(truth, MIN_DEPTH, MAX_DEPTH)

    def draw(self, tag: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return uniform(tag, self.golden.seed, shape, low, high)

    def close(self, name: str, got: Tensor) -> bool:
        return float(got) == pytest.approx(self.values[name], rel=VALUE)

    def gradient_error(self, name: str, loss: Callable[[Tensor], Tensor]) -> float:
        return self.golden.error(name, gradient(loss, self.prediction))


def gradient(loss: Callable[[Tensor], Tensor], prediction: Tensor) -> Tensor:
    leaf = prediction.clone().requires_grad_(True)
    loss(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


def random_maps() -> Maps:
    """Prediction, truth (metres) and mask, (2, 1, 40, 50) each; a fifth invalid."""
    generator = torch.Generator().manual_seed(1)
    prediction, truth, drop = (torch.rand(2, 1, 40, 50, generator=generator) for _ in range(3))
    return 1 + 9 * prediction, 1 + 9 * truth, drop > 0.2
