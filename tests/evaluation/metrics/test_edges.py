"""Depth edges by hand and against the authors' code."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from metric_cases import ALL, Case, line, step

from prv2cli.errors import MissingExtraError
from prv2cli.evaluation.metrics.edge_errors import edge_map_metrics
from prv2cli.evaluation.metrics.edges import canny_edges, depth_edges, disparity_edges, distance_to, edge_band


def test_depth_edges_are_both_sides_of_the_step_and_the_band_is_symmetric() -> None:
    edges = depth_edges(step(24), ALL)
    assert np.flatnonzero(edges.any(axis=0)).tolist() == [23, 24]
    assert np.flatnonzero(edge_band(edges, 4).all(axis=0)).tolist() == list(range(19, 29))
    assert not depth_edges(step(24), ALL, jump=0.21).any()


def test_disparity_edges(case: Case) -> None:
    assert np.array_equal(disparity_edges(case.truth), case.golden.arrays["boundaries_d0"].astype(bool))
    assert np.array_equal(case.edges, case.golden.arrays["boundaries_disp_d0"].astype(bool))


def test_canny_edges_are_exact(case: Case) -> None:
    pytest.importorskip("skimage")
    got = {
        "edges_gt_log": canny_edges(case.exact_scene),
        "edges_pred_log": canny_edges(case.noisy_scene),
    }
    for name, edges in got.items():
        assert np.array_equal(edges, case.golden.arrays[name].astype(bool)), name


def test_disparity_edges_by_hand() -> None:
    disparity = np.zeros((9, 12))
    disparity[:, 6:] = 1.5
    assert np.flatnonzero(disparity_edges(disparity).any(axis=0)).tolist() == [5, 6]
    assert not disparity_edges(disparity / 1.5).any()


def test_distances_and_edges_of_nothing() -> None:
    assert np.isinf(distance_to(np.zeros((3, 4), dtype=bool))).all()
    pytest.importorskip("skimage")
    for flat in (np.zeros((9, 9)), np.full((9, 9), 3.0)):
        assert not canny_edges(flat)[2:-2, 2:-2].any()


def test_without_scikit_image_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(MissingExtraError, match=r"prv2cli\[train\]"):
        edge_map_metrics(line(5), line(6), ALL)
