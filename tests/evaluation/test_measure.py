"""The figures of one image, with closed forms; what is left out."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from depth_pairs import PLAIN, slope, stairs

from prv2cli.errors import InputError, MissingExtraError
from prv2cli.evaluation.config import Measuring
from prv2cli.evaluation.measure import measure, with_boundaries
from prv2cli.evaluation.report import METRICS


def test_the_truth_itself_is_perfect() -> None:
    pytest.importorskip("skimage")
    truth = stairs()
    figures = measure(truth, truth, Measuring(boundaries=True)).figures
    assert set(figures) == set(METRICS) - {"seam", "consistency_error", "matte_recall"}
    for name, value in figures.items():
        assert value == pytest.approx(1 if METRICS[name].better == 1 else 0, abs=1e-6), name


def test_a_tenth_too_far_has_the_figures_of_a_tenth() -> None:
    truth = slope()
    truth[0, :5] = np.nan
    known = truth[~np.isnan(truth)].astype(float)
    figures = measure(1.1 * truth.clip(1) + 0 * truth, truth, PLAIN).figures
    expected = {
        "delta1": 1,
        "abs_rel": 0.1,
        "sq_rel": 0.01 * known.mean(),
        "rmse": 0.1 * np.sqrt((known**2).mean()),
        "rmse_log": math.log(1.1),
        "log10": math.log10(1.1),
        "silog": 0,
        "missing": 0,
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-5), name


def test_crop_and_cap_decide_what_counts() -> None:
    truth = np.full((100, 100), 5, np.float32)
    pred = truth.copy()
    pred[:40] = 50  # above Garg's crop
    assert measure(pred, truth, Measuring(boundaries=False, crop="garg")).figures["abs_rel"] == 0
    assert measure(pred, truth, PLAIN).figures["abs_rel"] == pytest.approx(0.4 * 9)
    capped = Measuring(boundaries=False, cap=(1e-3, 10.0))
    assert measure(pred, truth, capped).figures["abs_rel"] == pytest.approx(0.4 * 1)  # 50 is clipped to 10
    truth[50:] = 12
    assert measure(pred, truth, capped).figures["delta1"] == pytest.approx(
        0.2
    )  # only rows 40..49 of 0..49 are right
    with pytest.raises(InputError, match=r"within the crop \(none\) and 20 to 30 m"):
        measure(pred, truth, Measuring(boundaries=False, cap=(20.0, 30.0)))
    with pytest.raises(InputError, match="480 x 640"):
        measure(pred, truth, Measuring(boundaries=False, crop="eigen-nyu"))


def test_a_pixel_without_prediction_counts_as_the_smallest_depth_and_is_told() -> None:
    truth = np.full((10, 10), 4, np.float32)
    pred = truth.copy()
    pred[:3] = np.nan
    figures = measure(pred, truth, Measuring(boundaries=False, cap=(1.0, 80.0))).figures
    assert figures["missing"] == pytest.approx(0.3)
    assert figures["abs_rel"] == pytest.approx(0.3 * 3 / 4)


def test_edges_of_see_come_from_the_disparity_where_there_is_one() -> None:
    truth = stairs()
    blurred = truth.copy()
    blurred[8:16, 9] = 3  # a pixel between the two surfaces
    assert measure(blurred, truth, PLAIN).figures["see"] > 0
    no_edges = np.full_like(truth, 7)
    assert math.isnan(measure(blurred, truth, PLAIN, no_edges).figures["see"])
    exact = Measuring(boundaries=False, exact=True)
    assert measure(blurred, truth, exact, no_edges).figures["see"] == 0


def test_holes_have_no_edges_unless_exact() -> None:
    truth = np.full((40, 40), 5, np.float32)
    truth[10:20, 10:20] = np.nan
    pred = np.full((40, 40), 5.5, np.float32)
    assert math.isnan(measure(pred, truth, PLAIN).figures["see"])
    assert measure(pred, truth, Measuring(boundaries=False, exact=True)).figures["see"] == pytest.approx(0.5)
    pytest.importorskip("skimage")
    figures = measure(pred, truth, Measuring(boundaries=True)).figures
    assert math.isnan(figures["edge_f1"])
    assert measure(pred, truth, Measuring(boundaries=True, exact=True)).figures["edge_recall"] == 0


def test_boundaries_see_a_shifted_box() -> None:
    pytest.importorskip("skimage")
    truth = np.full((60, 80), 4, np.float32)
    truth[20:40, 20:50] = 2
    pred = np.roll(truth, 1, axis=1)
    figures = measure(pred, truth, Measuring(boundaries=True)).figures
    assert 0 < figures["edge_accuracy"] < 1
    assert 0.5 < figures["edge_f1"] < 1
    assert figures["edge_agreement"] == pytest.approx(1 - figures["edge_hamming"])


def test_boundaries_without_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    how, notes = with_boundaries(Measuring())
    assert how.boundaries is False
    assert "prv2cli[train]" in notes[0]
    with pytest.raises(MissingExtraError):
        with_boundaries(Measuring(boundaries=True))
    assert with_boundaries(Measuring(boundaries=False))[1] == []
