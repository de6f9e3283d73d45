"""What a refiner is told of a coarse map: how sharp, how noisy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.restoration.back_projection import blur
from prv2cli.restoration.character import character, noise_level

WINDOW = 21


def _step(side: int = 192) -> Tensor:
    values = torch.zeros(1, 1, side, side)
    values[..., side // 2 :] = 1
    return values


def _sharpness(values: Tensor, photograph: tuple[int, int] = (192, 192)) -> float:
    """At the edge, back in pixels."""
    told = character(values, photograph, (48, 48), WINDOW)
    assert told.shape == (1, 2, 48, 48)
    return 2 ** (4 * float(told[0, 0, 24, 24]) + 2)


@pytest.mark.parametrize("sigma", [2.0, 4.0, 8.0])
def test_the_blur_of_an_edge_is_told_in_pixels(sigma: float) -> None:
    assert _sharpness(blur(_step(), sigma)) == pytest.approx(sigma, rel=0.25)
    assert _sharpness(_step()) < 0.6


def test_a_small_map_is_as_blurred_as_its_pixels_are_large() -> None:
    low = F.interpolate(_step(), size=(24, 24), mode="area")
    assert _sharpness(low) > 4 * _sharpness(_step())


@pytest.mark.parametrize("factor", [1, 4])
def test_noise_is_measured_and_structure_is_not_taken_for_it(factor: int) -> None:
    grain = 0.05 * torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(0))
    enlarged = F.interpolate(grain, scale_factor=factor, mode="bilinear") if factor > 1 else grain
    assert 0.015 < noise_level(enlarged) < 0.07
    assert noise_level(blur(_step(), 2.0)) < 0.002
