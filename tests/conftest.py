"""Shared fixtures: the shipped refiner, small random models, pictures made on the spot."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from prv2cli import Refiner


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test asks the real Hub or looks into the user's cache: those that test the Hub say which one."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path_factory.getbasetemp() / "hub-cache"))


@pytest.fixture(autouse=True)
def _own_logging() -> None:
    """The command line sets up the program's logger, even in fixtures of modules; every test finds it untouched."""
    logger = logging.getLogger("prv2cli")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def refiner() -> Refiner:
    """The shipped refiner and coarse network on the CPU."""
    from prv2cli import Refiner

    return Refiner.from_pretrained("refiner-s", coarse="lite", device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """(300, 420, 3) uint8: a busy picture with shading, texture, lines and noise. No opencv needed."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:300, 0:420]
    base = 90 + 60 * np.sin(x / 37) * np.cos(y / 23) + 40 * ((x // 40 + y // 30) % 2)
    base[:, 200:203] = 250
    base[120:190, 60:150] = 30
    colour = base[..., None] * np.array([1.0, 0.85, 0.7]) + rng.normal(0, 6, (300, 420, 3))
    return np.clip(colour, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which no test may leave a temporary file."""
    from prv2cli.files.atomic import TEMP_SUFFIX

    yield tmp_path
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(TEMP_SUFFIX)]
