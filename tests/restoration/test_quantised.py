"""Terraces of maps that were stored in few steps: gone, within half a step, edges where they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prv2cli.restoration.quantised import unstep


def _slope(height: int = 120, width: int = 200) -> Tensor:
    """(1, 1, H, W) of 8-bit levels: a slope of a level every 20 px, and a block 80 levels above it."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    values = 60 + x / 20 + y / 200
    values[40:80, 60:110] += 80
    return values[None, None].float()


def test_a_slope_has_no_terraces_any_more() -> None:
    true = _slope()
    found = unstep(true.round(), 0.5)
    plain = (..., slice(90, 115), slice(10, 190))
    steps = found[plain].diff(dim=-1)
    assert steps.max() < 0.15  # a level a 20 px: 0.05; stored: 1
    assert (found - true)[plain].abs().mean() < 0.25 * (true.round() - true)[plain].abs().mean()


def test_nothing_moves_by_more_than_half_a_step() -> None:
    stored = _slope().round()
    assert (unstep(stored, 0.5) - stored).abs().max() <= 0.5 + 1e-5
    block = unstep(stored, 0.5)[..., 40:80, 60] - unstep(stored, 0.5)[..., 40:80, 59]
    assert block.min() > 78


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (47, 49), (97, 131)])
def test_maps_of_any_size(size: tuple[int, int]) -> None:
    stored = torch.randint(0, 255, (1, 1, *size), generator=torch.Generator().manual_seed(0)).float()
    found = unstep(stored, 0.5)
    assert found.shape == stored.shape
    assert (found - stored).abs().max() <= 0.5 + 1e-5
