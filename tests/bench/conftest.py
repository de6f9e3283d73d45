"""What the tests of this room share: a refiner, a tiny coarse network, a photograph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prv2cli import Refiner
from prv2cli.bench.networks import Candidate, candidate
from prv2cli.model.config import LiteConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return Refiner.from_pretrained("refiner-s", coarse=None, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def tiny() -> Candidate:
    torch.manual_seed(0)
    return candidate("tiny", LiteConfig(width=8, long_side=64), (64, 64), CPU)


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (256, 384, 3), np.uint8)
