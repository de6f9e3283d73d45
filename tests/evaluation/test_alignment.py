"""Predictions brought to the scale of the truth before they are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from depth_pairs import slope

from prv2cli.errors import InputError
from prv2cli.evaluation.alignment import align


@pytest.mark.parametrize(
    ("how", "space", "pred", "fit"),
    [
        ("scale", "depth", lambda t: t / 3, (3, 0)),
        ("scale", "disparity", lambda t: t / 3, (1 / 3, 0)),
        ("scale-shift", "depth", lambda t: (t + 5) / 2, (2, -5)),
        ("scale-shift", "disparity", lambda t: 1 / ((1 / t + 0.2) / 4), (4, -0.2)),
    ],
)
def test_alignment_undoes_what_it_should(how: Any, space: Any, pred: Any, fit: tuple[float, float]) -> None:
    truth = slope()
    mask = truth > 0
    wrong = pred(truth.astype(float)).astype(np.float32)
    found = align(wrong, truth, mask, how, space)
    assert (found.scale, found.shift) == pytest.approx(fit, rel=1e-3)
    np.testing.assert_allclose(found.values, truth, rtol=1e-3)
    mask[:12] = False  # where it is fitted must not matter here, and what lies outside is aligned too
    wrong[0, 0] = np.nan
    again = align(wrong, truth, mask, how, space)
    np.testing.assert_allclose(again.values.ravel()[1:], truth.ravel()[1:], rtol=1e-3)
    assert np.isnan(again.values[0, 0])


def test_least_squares_is_the_best_fit() -> None:
    rng = np.random.default_rng(3)
    truth = slope()
    pred = (truth * 0.3 + 2 + rng.normal(0, 0.2, truth.shape)).astype(np.float32)
    fit = align(pred, truth, truth > 0, "scale-shift")
    matrix = np.stack([pred.ravel(), np.ones(pred.size)], axis=1).astype(float)
    expected = np.linalg.lstsq(matrix, truth.ravel().astype(float), rcond=None)[0]
    assert (fit.scale, fit.shift) == pytest.approx(tuple(expected), rel=1e-6)


def test_the_median_does_not_mind_outliers_and_nothing_is_an_error() -> None:
    truth = np.full((9, 9), 6, np.float32)
    pred = np.full((9, 9), 2, np.float32)
    pred[:3] = 1000
    assert align(pred, truth, truth > 0, "scale").scale == 3
    assert align(pred, truth, truth > 0, "none").scale == 1
    with pytest.raises(InputError, match="flat or empty"):
        align(truth, truth, truth > 0, "scale-shift")
    with pytest.raises(InputError, match="nothing to align on"):
        align(-pred, truth, truth > 0, "scale")


def test_what_lands_behind_infinity_is_at_the_cap() -> None:
    truth, pred = slope(), slope()
    pred[0, 0] = 1e6  # not in the mask; its disparity falls below zero
    mask = truth > 1
    pred_of_truth = 1 / (1 / pred + 0.05)
    fitted = align(pred_of_truth, truth, mask, "scale-shift", "disparity", 80.0)
    assert fitted.shift == pytest.approx(-0.05, rel=1e-3)
    assert fitted.values[0, 0] == pytest.approx(80)
