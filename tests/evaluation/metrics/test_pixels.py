"""Figures everywhere: closed forms, and values of the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_cases import ALL, SHAPE, SIZE, Case, reference, scene, step
from torch.nn import functional as F

from prv2cli.evaluation.metrics.boundary_f1 import boundary_f1
from prv2cli.evaluation.metrics.edge_errors import edge_abs_rel, flying_pixels, soft_edge_error
from prv2cli.evaluation.metrics.edges import depth_edges
from prv2cli.evaluation.metrics.pixels import (
    Crop,
    abs_rel,
    clip_depth,
    consistency_error,
    delta,
    evaluated_pixels,
    log10,
    paper_metrics,
    rmse,
    rmse_log,
    silog,
    sq_rel,
)


def test_abs_rel_of_a_scaled_map() -> None:
    assert abs_rel(1.1 * step(), step(), ALL) == pytest.approx(0.1)


def test_rmse_silog_and_delta_closed_forms() -> None:
    truth = step()
    assert rmse(truth + 0.25, truth, ALL) == pytest.approx(0.25)
    assert silog(3 * truth, truth, ALL) == pytest.approx(0, abs=1e-12)
    assert delta(1.3 * truth, truth, ALL) == 0
    assert delta(1.3 * truth, truth, ALL, power=2) == 1


def test_unmeasured_pixels_never_count() -> None:
    truth, pred, mask = step(), step(), ALL.copy()
    mask[4:20, 15:33] = False
    truth[~mask], pred[~mask] = 0, 77
    assert abs_rel(pred, truth, mask) == 0
    assert edge_abs_rel(pred, truth, mask) == 0
    assert soft_edge_error(pred, truth, mask) == 0
    assert boundary_f1(pred, truth, mask) == 1
    assert flying_pixels(pred, truth, mask) == 0
    assert not depth_edges(truth, mask)[~mask].any()


def test_nothing_measured_is_nan_and_no_warning() -> None:
    for metric in (abs_rel, edge_abs_rel, soft_edge_error, boundary_f1):
        assert np.isnan(metric(step(), np.zeros(SHAPE), np.zeros(SHAPE, dtype=bool)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_tiny_maps(shape: tuple[int, int]) -> None:
    truth, mask = step(shape[1] // 2, shape), np.ones(shape, dtype=bool)
    assert abs_rel(truth, truth, mask) == 0
    assert boundary_f1(truth, truth, mask) == 1 or not depth_edges(truth, mask).any()


NAMES = {  # the authors' -> ours
    **{f"a{n}": f"delta{n}" for n in (1, 2, 3)},
    **{name: name for name in ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog")},
    "log_10": "log10",
}


@pytest.mark.parametrize(
    ("name", "dtype"), [("compute_errors", np.float64), ("compute_errors_f32", np.float32)]
)
def test_paper_metrics(case: Case, name: str, dtype: type) -> None:
    got = paper_metrics(case.pred.astype(dtype), case.truth.astype(dtype), np.ones(SIZE, dtype=bool))
    assert got == reference(case, name, NAMES)


@pytest.mark.parametrize(
    ("name", "crop"), [("nocrop", None), ("garg", "garg"), ("eigen_kitti", "eigen-kitti")]
)
def test_paper_metrics_in_a_range_and_a_crop(case: Case, name: str, crop: Crop | None) -> None:
    assert case.scores(case.pred, crop) == reference(case, f"compute_metrics_{name}", {**NAMES, "see": "see"})


def test_paper_metrics_of_a_small_prediction(case: Case) -> None:
    small = torch.from_numpy(scene("scene", case.golden.seed, (48, 64)))[None, None]
    pred = F.interpolate(small, SIZE, mode="bilinear", align_corners=False)[0, 0].numpy()
    assert case.scores(pred, None) == reference(case, "compute_metrics_lowres_pred", {**NAMES, "see": "see"})


def test_relative_and_logarithmic_errors_of_a_scaled_map() -> None:
    truth = step()
    assert sq_rel(1.5 * truth, truth, ALL) == pytest.approx(0.25 * truth.mean())
    assert rmse_log(np.e * truth, truth, ALL) == pytest.approx(1)
    assert log10(truth / 100, truth, ALL) == pytest.approx(2)


def test_evaluated_pixels() -> None:
    truth = np.full((100, 100), 5.0)
    truth[50, 50:54] = [0, 1, 10, 9.99]
    assert not evaluated_pixels(truth, 1, 10)[50, 50:53].any()
    assert evaluated_pixels(truth, 1, 10).sum() == 100 * 100 - 3
    rows, columns = np.nonzero(evaluated_pixels(truth, 1, 10, "garg"))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 98, 3, 95)
    rows, columns = np.nonzero(evaluated_pixels(np.full((480, 640), 5.0), 1, 10, "eigen-nyu"))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 470, 41, 600)
    with pytest.raises(ValueError, match="480 x 640"):
        evaluated_pixels(truth, 1, 10, "eigen-nyu")


def test_clip_depth_returns_a_copy_without_holes() -> None:
    pred = np.array([[np.nan, -np.inf, 0.2], [5, np.inf, 11]], dtype=np.float32)
    clipped = clip_depth(pred, 1, 10)
    assert clipped.tolist() == [[1, 1, 1], [5, 10, 10]]
    assert clipped.dtype == np.float32
    assert np.isnan(pred[0, 0])


def test_consistency_error_of_tiles_cut_from_a_map_and_shifted() -> None:
    whole = np.random.default_rng(0).random((20, 30))
    tiles = np.stack([[whole[y : y + 12, x : x + 14] for x in (0, 8, 16)] for y in (0, 8)])  # (2, 3, 12, 14)
    assert consistency_error(tiles, (4, 6)) == 0
    tiles[0, 1] += 0.5  # its left, right and lower neighbours: two overlaps of 12 x 6 px, one of 4 x 14
    pixels = 4 * 12 * 6 + 3 * 4 * 14
    assert consistency_error(tiles, (4, 6)) == pytest.approx(0.5 * (2 * 12 * 6 + 4 * 14) / pixels)
    assert np.isnan(consistency_error(tiles[:1, :1], (4, 6)))
    assert np.isnan(consistency_error(tiles, (0, 0)))
    with pytest.raises(ValueError, match="cannot overlap by 13"):
        consistency_error(tiles, (13, 6))
