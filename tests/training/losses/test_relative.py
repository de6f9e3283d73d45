"""Losses whose truth lacks its scale, or scale and shift."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prv2cli.training.losses.relative import (
    FEWEST,
    doubt_loss,
    log_ratio,
    mean_of,
    scale_and_shift_invariant,
    scale_error,
    scale_invariant,
)


def _inverse(seed: int = 0) -> Tensor:
    return torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(seed)) + 0.1


EVERYWHERE = torch.ones(2, 1, 32, 48, dtype=torch.bool)


def test_inverse_depth_is_right_up_to_scale_and_shift() -> None:
    truth = _inverse()
    for inverse in (3 * truth + 0.7, 0.01 * truth):
        level, gradient = scale_and_shift_invariant(inverse, truth, EVERYWHERE)
        assert level.abs().max() < 1e-4
        assert gradient.abs().max() < 1e-3
    level, gradient = scale_and_shift_invariant(-truth, truth, EVERYWHERE)
    assert (level > 0.5).all()
    assert (gradient > 0.5).all()


def test_what_is_not_known_does_not_count() -> None:
    truth, known = _inverse(), EVERYWHERE.clone()
    known[..., :10] = False
    inverse = (2 * truth).requires_grad_()
    spoilt = torch.where(known, truth, float("nan"))
    level, gradient = scale_and_shift_invariant(inverse, spoilt, known)
    ratio, comparable = log_ratio(-inverse.log(), spoilt, known)
    (level + gradient + mean_of(ratio, comparable)).sum().backward()
    assert inverse.grad is not None
    assert torch.isfinite(inverse.grad).all()
    assert (inverse.grad[..., :10] == 0).all()


def test_an_image_of_which_too_little_is_known_costs_nothing() -> None:
    truth, known = _inverse(), torch.zeros_like(EVERYWHERE)
    known[1].view(-1)[: FEWEST - 1] = True
    inverse = _inverse(1).requires_grad_()
    level, gradient = scale_and_shift_invariant(inverse, truth, known)
    ratio, comparable = log_ratio(-inverse.log(), truth, known)
    total = level + gradient + mean_of(ratio, comparable)
    assert total.tolist() == [0, 0]
    total.sum().backward()
    assert inverse.grad is not None
    assert not inverse.grad.any()


def test_log_depth_is_right_up_to_scale() -> None:
    truth = _inverse()
    truth[0, 0, :4] = 0  # infinitely far: no depth to compare with
    log_depth = torch.log(2.5 / truth.clamp_min(1e-3))
    ratio, known = log_ratio(log_depth, truth, EVERYWHERE)
    assert known.sum((1, 2, 3)).tolist() == [28 * 48, 32 * 48]
    off = scale_error(ratio, known)
    assert off.tolist() == pytest.approx([0.916, 0.916], abs=1e-3)
    assert mean_of(ratio, known).tolist() == pytest.approx([0.916, 0.916], abs=1e-3)
    assert scale_invariant(ratio, known, off).max() < 1e-5


def test_the_best_doubt_is_the_expected_error() -> None:
    errors = torch.tensor([0.1, -0.3, 0.05, 0.35])
    doubts = torch.linspace(-4, 1, 501)
    costs = [doubt_loss(doubt.expand(4), errors).mean() for doubt in doubts]
    best = doubts[int(torch.stack(costs).argmin())]
    assert float(best.exp()) == pytest.approx(0.2, rel=0.02)
