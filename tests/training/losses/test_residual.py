"""Losses of a residual: what a correction earns, and where an error costs most."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prv2cli.training.losses.residual import drift_loss, edge_loss, weighted_residual_loss


@pytest.fixture
def target() -> Tensor:
    """(1, 1, 32, 32) residuals: most of the coarse map is right, a stripe of it is wrong."""
    target = torch.zeros(1, 1, 32, 32)
    target[..., 10:14] = 0.5
    return target


@pytest.mark.parametrize("smooth", [True, False])
def test_a_perfect_residual_costs_nothing_and_any_other_does(target: Tensor, smooth: bool) -> None:
    assert weighted_residual_loss(target, target, smooth=smooth) == 0
    losses = [float(weighted_residual_loss(target * k, target, smooth=smooth)) for k in (0.9, 0.5, 0.0, -0.5)]
    assert losses == sorted(losses)
    assert losses[0] > 0


@pytest.mark.parametrize("smooth", [True, False])
def test_an_error_costs_more_where_the_coarse_map_is_wrong(target: Tensor, smooth: bool) -> None:
    def loss_of_an_error_in(columns: slice) -> float:
        residual = target.clone()
        residual[..., columns] += 0.05
        return float(weighted_residual_loss(residual, target, smooth=smooth))

    assert loss_of_an_error_in(slice(10, 14)) > 2 * loss_of_an_error_in(slice(20, 24))


@pytest.mark.parametrize("smooth", [True, False])
def test_a_flat_tile_has_a_finite_gradient(smooth: bool) -> None:
    residual = torch.full((2, 1, 16, 16), 0.1, requires_grad=True)
    weighted_residual_loss(residual, torch.zeros(2, 1, 16, 16), smooth=smooth).backward()
    assert residual.grad is not None
    assert torch.isfinite(residual.grad).all()
    assert residual.grad.abs().sum() > 0


def test_the_edge_loss_counts_shares_of_a_step() -> None:
    """An edge left blurred costs nearly the same whatever its height, and less than one that is out of place."""
    of_low, of_high = _edge_losses(0.5), _edge_losses(8.0)
    for exact, blurred, displaced in (of_low, of_high):
        assert exact == 0 < blurred < displaced
    assert of_low == pytest.approx(of_high, rel=0.15)  # sixteen times as high
    plain = torch.full((1, 1, 32, 64), 0.3)
    assert edge_loss(plain + 0.1, plain, plain) == 0  # no edge


def _edge_losses(height: float) -> list[float]:
    """Of a step behind a map that shows a ramp of 8 px there: refined exactly, not at all, and 4 px out of place."""
    truth = torch.zeros(1, 1, 32, 64)
    truth[..., 32:] = height
    coarse = truth.clone()
    coarse[..., 28:37] = torch.linspace(0, height, 9)
    refined = (truth, coarse, truth.roll(4, 3))
    return [float(edge_loss(depth - coarse, truth - coarse, truth)) for depth in refined]


def test_drift_is_of_local_means_alone(target: Tensor) -> None:
    assert drift_loss(target, target) == 0
    texture = torch.ones(1, 1, 32, 32)
    texture[..., ::2] = -1  # averages out in every window
    assert drift_loss(target + 0.3 * texture, target) < 1e-6
    shifted = [float(drift_loss(target + shift, target)) for shift in (0.01, 0.1)]
    assert shifted[1] == pytest.approx(10 * shifted[0], rel=1e-4)
    assert shifted[0] > 0
