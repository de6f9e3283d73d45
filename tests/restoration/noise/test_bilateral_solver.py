"""The bilateral solver: smooth where the photograph is, a step where it has one, the solution of its own system."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prv2cli.restoration.noise import bilateral_solver
from prv2cli.restoration.noise.bilateral_solver import solve

RNG = np.random.default_rng(0)


def _two_halves(height: int = 96, width: int = 128) -> tuple[np.ndarray, np.ndarray]:
    rgb = np.full((height, width, 3), 0.2)
    rgb[:, width // 2 :] = 0.8
    truth = np.where(np.arange(width) < width // 2, 1.0, 3.0) * np.ones((height, 1))
    return rgb, truth


def test_noise_goes_and_the_step_stays() -> None:
    rgb, truth = _two_halves()
    noisy = truth + RNG.normal(0, 0.5, truth.shape)
    found = solve(rgb, noisy, 30.0)
    assert np.abs(found - truth).mean() < 0.2 * np.abs(noisy - truth).mean()
    middle = truth.shape[1] // 2
    assert np.abs(found[:, middle] - found[:, middle - 1] - 2).max() < 0.4


def test_without_strength_only_pixels_that_look_alike_are_joined() -> None:
    rgb, truth = _two_halves()
    assert np.abs(solve(rgb, truth, 1e-9) - truth).max() < 1e-4


def test_a_constant_map_stays_and_an_offset_goes_through() -> None:
    rgb = RNG.random((40, 50, 3))
    assert np.allclose(solve(rgb, np.full((40, 50), 2.5), 100.0), 2.5, atol=1e-3)
    noisy = RNG.normal(0, 1, (40, 50))
    assert np.allclose(solve(rgb, noisy + 7, 20.0), solve(rgb, noisy, 20.0) + 7, atol=2e-2)


def test_tiny_pictures() -> None:
    assert solve(np.zeros((1, 1, 3)), np.ones((1, 1)), 10.0).shape == (1, 1)


def test_noisier_levels_count_less(monkeypatch: pytest.MonkeyPatch) -> None:
    _, truth = _two_halves()
    near = truth < 2
    rgb = np.where(near[..., None], 0.5, 0.55) * np.ones(3)  # neighbours in the grid
    noisy = truth + RNG.normal(0, 1, truth.shape) * np.where(near, 0.03, 0.6)

    def error() -> float:
        return float(np.abs(solve(rgb, noisy, 60.0) - truth)[near].mean())

    uneven = error()
    monkeypatch.setattr(bilateral_solver, "UNEVEN", 1.0)
    assert uneven < 0.8 * error()


def test_a_slope_is_not_flattened() -> None:
    slope = np.linspace(0, 1, 128) * np.ones((96, 1))
    noisy = slope + RNG.normal(0, 0.05, slope.shape)
    found = solve(np.full((96, 128, 3), 0.5), noisy, 60.0)
    assert abs(np.polyfit(slope[0], found.mean(axis=0), 1)[0] - 1) < 0.05  # 0.85 without the second solution


def test_pixels_of_a_small_map_are_means_over_both_sides_of_an_edge() -> None:
    """Enlarged, it has a ramp there, and the solution would follow."""
    rgb, truth = _two_halves(96, 120)  # the step is in the middle of a pixel of 8 x 8 cells
    small = truth.reshape(12, 8, 15, 8).mean(axis=(1, 3))
    small += RNG.normal(0, 0.05, small.shape)
    enlarged = F.interpolate(torch.from_numpy(small)[None, None], truth.shape, mode="bilinear")[0, 0].numpy()
    beside = slice(truth.shape[1] // 2 - 8, truth.shape[1] // 2 + 8)

    def error(small: np.ndarray | None) -> float:
        return float(np.abs(solve(rgb, enlarged, 10.0, small) - truth)[:, beside].mean())

    assert error(small) < 0.5 * error(None)


def test_a_small_map_of_one_level_stays() -> None:
    rgb = RNG.random((40, 50, 3))
    found = solve(rgb, np.full((40, 50), 2.5), 50.0, np.full((7, 9), 2.5))
    assert np.allclose(found, 2.5, atol=1e-3)
