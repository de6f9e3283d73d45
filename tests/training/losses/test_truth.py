"""SILog against the authors' values and its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from loss_cases import GRADIENT, Case, Maps

from prv2cli.training.losses.truth import silog


def test_silog(case: Case) -> None:
    assert case.close("silog", silog(case.prediction, case.truth, case.valid))
    assert case.close("silog_beta0.5", silog(case.prediction, case.truth, case.valid, beta=0.5))
    assert case.close("silog_lowres_pred", silog(case.small, case.truth, case.valid))
    assert case.gradient_error("silog_grad", lambda p: silog(p, case.truth, case.valid)) < GRADIENT


def test_silog_agrees_with_its_formula() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.uniform(0.5, 20, (2, 1, 9, 11)), rng.uniform(0.5, 20, (2, 1, 9, 11))
    valid = rng.random(truth.shape) > 0.3
    g = (np.log(prediction) - np.log(truth))[valid]
    expected = 10 * math.sqrt(g.var(ddof=1) + 0.15 * g.mean() ** 2)
    got = silog(torch.from_numpy(prediction), torch.from_numpy(truth), torch.from_numpy(valid))
    assert float(got) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_silog_of_a_wrong_scale_is_that_of_its_logarithm(factor: float) -> None:
    truth = torch.rand(1, 1, 8, 8, dtype=torch.float64) + 1
    got = silog(truth * factor, truth, torch.ones_like(truth, dtype=torch.bool))
    assert float(got) == pytest.approx(10 * math.sqrt(0.15) * abs(math.log(factor)), rel=1e-5)


def test_silog_nearly_ignores_a_factor(maps: Maps) -> None:
    prediction, truth, valid = maps
    no_mean = silog(prediction, truth, valid, beta=0)
    assert float(silog(3 * prediction, truth, valid, beta=0)) == pytest.approx(float(no_mean), rel=1e-5)
