"""Differences and their gradients against the authors' values and closed forms."""

from __future__ import annotations

import pytest
import torch
from loss_cases import GRADIENT, Case, Maps
from torch import Tensor

from prv2cli.training.losses.differences import gradient_matching, masked_l1


def test_gradient_matching_exact(case: Case) -> None:
    def loss(prediction: Tensor, valid: Tensor = case.valid) -> Tensor:
        return gradient_matching(prediction, case.truth, valid, exact=True)

    assert case.close("gradmatch", loss(case.prediction))
    assert case.close("gradmatch_lowres_pred", loss(case.small))
    assert case.gradient_error("gradmatch_grad", loss) < GRADIENT


def test_without_alignment(case: Case) -> None:
    assert case.close("ssi0_gm0", masked_l1(case.prediction, case.pseudo, case.valid))
    assert case.close("ssi0_gm1", gradient_matching(case.prediction, case.pseudo, case.valid))


def test_gradient_matching_counts_both_axes_and_exact_only_one() -> None:
    truth = torch.zeros(1, 1, 6, 8)
    valid = torch.ones_like(truth, dtype=torch.bool)
    columns, rows = torch.arange(8.0).expand(1, 1, 6, 8), torch.arange(6.0)[:, None].expand(1, 1, 6, 8)
    across, down = 2 * 6 * 6 / 48, 2 * 4 * 8 / 48  # a slope of 1 differs by 2 over two pixels
    assert gradient_matching(columns, truth, valid) == pytest.approx(across)
    assert gradient_matching(rows, truth, valid) == pytest.approx(down)
    assert gradient_matching(columns, truth, valid, exact=True) == 0
    assert gradient_matching(rows, truth, valid, exact=True) == pytest.approx(down)


def test_gradient_matching_ignores_an_offset(maps: Maps) -> None:
    prediction, truth, valid = maps
    expected = float(gradient_matching(prediction, truth, valid))
    assert float(gradient_matching(prediction + 7, truth, valid)) == pytest.approx(expected, rel=1e-5)
