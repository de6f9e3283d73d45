"""Figures at depth edges: closed forms, and values of the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_rules import uniform
from metric_cases import ALL, FAR, NEAR, SHAPE, SIZE, VALUE, Case, line, reference, step

from prv2cli.evaluation.metrics.boundary_f1 import boundary_f1
from prv2cli.evaluation.metrics.edge_errors import (
    _soft_errors,
    edge_abs_rel,
    edge_map_metrics,
    flying_pixels,
    paper_soft_edge_error,
    soft_edge_error,
)
from prv2cli.evaluation.metrics.edges import depth_edges


def ramp(first: int, last: int) -> np.ndarray:
    """Near up to column `first`, far from column `last` on, a straight line between."""
    return np.tile(np.interp(np.arange(SHAPE[1]), [first, last], [NEAR, FAR]), (SHAPE[0], 1))


def test_a_map_without_edges_has_no_edge_metrics() -> None:
    flat = np.full(SHAPE, NEAR)
    for metric in (edge_abs_rel, soft_edge_error, boundary_f1, flying_pixels):
        assert np.isnan(metric(step(), flat, ALL))


def test_edge_abs_rel_sees_only_the_band() -> None:
    truth, pred = step(24), step(24)
    pred[:, 40:] = 99
    assert edge_abs_rel(pred, truth, ALL) == 0
    assert edge_abs_rel(1.1 * truth, truth, ALL) == pytest.approx(0.1)


def test_soft_edge_error_forgives_one_pixel_but_no_slope() -> None:
    assert soft_edge_error(step(25), step(24), ALL) == 0
    assert soft_edge_error(ramp(20, 28), step(24), ALL) > 0.01
    half = np.full(SHAPE, (NEAR + FAR) / 2)  # 0.2 m from either surface, at near and at far edge pixels
    expected = (0.2 / NEAR + 0.2 / FAR) / 2
    assert soft_edge_error(half, step(24), ALL) == pytest.approx(expected)


def test_flying_pixels_hang_on_ramps_not_on_steps() -> None:
    truth = step(24)
    assert flying_pixels(truth, truth, ALL) == 0
    assert flying_pixels(step(26), truth, ALL) == 0
    in_the_middle = ((ramp(19, 28) - NEAR) / (FAR - NEAR))[0, 20:28]  # the 8 px whose window spans the step
    expected = np.mean(np.abs(in_the_middle - 0.5) < 1 / 6)
    assert flying_pixels(ramp(19, 28), truth, ALL) == pytest.approx(expected)
    assert 0.2 < expected < 0.6


EDGE_NAMES = {
    "EdgeAcc": "accuracy",
    "EdgeComp": "completeness",
    "f1_score": "f1",
    "acc": "agreement",
    **{name: name for name in ("precision", "recall", "hamming")},
}


def test_soft_edge_error_pixel_by_pixel(case: Case) -> None:
    everywhere = np.ones(SIZE, dtype=bool)
    errors = _soft_errors(case.pred, case.truth, case.truth > 0, everywhere)
    assert case.golden.error("see_map_r1", torch.from_numpy(errors.reshape(SIZE))) < VALUE
    mean = paper_soft_edge_error(case.pred, case.truth, everywhere, everywhere)
    assert mean == pytest.approx(errors.mean())


def test_edge_map_metrics(case: Case) -> None:
    pytest.importorskip("scipy")
    true_edges, pred_edges = (
        case.golden.arrays[name].astype(bool) for name in ("edges_gt_log", "edges_pred_log")
    )
    mask = (uniform("vmask", case.golden.seed, SIZE, 0, 1) > 0.15).numpy()
    mask[:6] = False
    got = edge_map_metrics(pred_edges, true_edges, mask, exact=True)
    assert got == reference(case, "boundary_metrics", EDGE_NAMES)
    got = edge_map_metrics(np.zeros_like(true_edges), true_edges, mask, exact=True)
    assert got == reference(case, "boundary_metrics_nopred", EDGE_NAMES)


def test_paper_soft_edge_error_in_metres_and_without_edges() -> None:
    edges = depth_edges(step(24), ALL)
    half = np.full(SHAPE, NEAR + 0.1)
    assert paper_soft_edge_error(half, step(24), ALL, edges) == pytest.approx(0.1)
    assert paper_soft_edge_error(step(25), step(24), ALL, edges) == 0
    assert np.isnan(paper_soft_edge_error(half, step(), ALL, ~ALL))
    assert paper_soft_edge_error(half, step(), ALL, ~ALL, exact=True) == 0
    with_hole, mask = step(24), ALL.copy()
    with_hole[:, 23], mask[:, 23] = 0, False  # no depth: nothing may match it
    near_zero = np.full(SHAPE, 0.01)
    assert paper_soft_edge_error(near_zero, with_hole, mask, edges) == pytest.approx(FAR - 0.01)


def test_edge_map_metrics_of_a_displaced_line() -> None:
    pytest.importorskip("scipy")
    perfect = edge_map_metrics(line(20), line(20), ALL)
    assert perfect == {
        "accuracy": 0, "completeness": 0, "precision": 1, "recall": 1, "f1": 1, "hamming": 0, "agreement": 1,
    }  # fmt: skip
    moved = edge_map_metrics(line(23), line(20), ALL)  # five columns each, two in common
    assert (moved["accuracy"], moved["completeness"]) == (3, 3)
    assert (moved["precision"], moved["recall"], moved["f1"]) == pytest.approx((0.4, 0.4, 0.4))
    assert moved["hamming"] == pytest.approx(6 / 48)
    assert moved["agreement"] == pytest.approx(42 / 48)


def test_boundary_distances_have_a_limit_and_the_authors_completeness_has_none() -> None:
    pytest.importorskip("scipy")
    pred, truth = line(20), line(20) | line(45)
    assert edge_map_metrics(pred, truth, ALL)["completeness"] == pytest.approx(10 / 2)
    assert edge_map_metrics(pred, truth, ALL, exact=True)["completeness"] == pytest.approx(25 / 2)
    assert edge_map_metrics(truth, pred, ALL)["accuracy"] == 0  # the other is too far to be its edge
    for exact in (False, True):
        far = edge_map_metrics(line(5), line(40), ALL, exact=exact)
        assert (far["accuracy"], far["completeness"]) == (10, 10)


def test_edge_map_metrics_without_true_edges_measure_nothing() -> None:
    pytest.importorskip("scipy")
    for exact in (False, True):
        scores = edge_map_metrics(line(5), line(40), ALL & ~line(40), exact=exact)
        assert {name for name, value in scores.items() if np.isnan(value)} == {
            "accuracy", "completeness", "precision", "recall", "f1",
        }  # fmt: skip
    assert all(np.isnan(value) for value in edge_map_metrics(line(5), line(5), ~ALL).values())
