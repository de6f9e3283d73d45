"""How much a map was changed: nothing, a share of what it is, band by band as at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prv2cli.restoration import change
from prv2cli.restoration.change import REACH, SHARE, add_change

COARSE = torch.rand(1, 1, 20, 30, generator=torch.Generator().manual_seed(0))


def _enlarged(height: int = 80, width: int = 120) -> np.ndarray:
    return F.interpolate(COARSE, size=(height, width), mode="bilinear")[0, 0].numpy()


def test_an_unchanged_map_adds_nothing() -> None:
    spread = np.full((80, 120), 0.1, np.float32)
    add_change(spread, _enlarged(), COARSE)
    assert np.abs(spread - 0.1).max() < 1e-6


def test_a_change_adds_its_share_where_it_is_and_around() -> None:
    refined = _enlarged()
    refined[30:50, 40:70] += 0.5
    spread = np.zeros_like(refined)
    add_change(spread, refined, COARSE)
    assert spread[40, 55] == pytest.approx(SHARE * 0.5, rel=1e-4)
    assert 0 < spread[40, 70 + REACH - 1] < SHARE * 0.1
    assert spread[40, 70 + REACH + 1] < 1e-6


def test_bands_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    refined = _enlarged() + np.random.default_rng(0).normal(0, 0.1, (80, 120)).astype(np.float32)
    whole, banded = np.zeros_like(refined), np.zeros_like(refined)
    add_change(whole, refined, COARSE)
    monkeypatch.setattr(change, "bands", lambda h, w: (slice(y, min(y + 7, h)) for y in range(0, h, 7)))
    add_change(banded, refined, COARSE)
    assert np.abs(whole - banded).max() < 1e-6
