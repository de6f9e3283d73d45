"""Depth metrics against closed forms: steps, ramps, shifts and scales whose figures are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from prv2cli import metrics

NEAR, FAR = 2.0, 2.4  # a step of 20 %: an edge at every threshold of boundary_f1
SHAPE = (32, 48)
ALL = np.ones(SHAPE, dtype=bool)


def step(column: int = 24, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Near on the left, far from `column` on."""
    depth = np.full(shape, NEAR)
    depth[:, column:] = FAR
    return depth


def ramp(first: int, last: int) -> np.ndarray:
    """Near up to column `first`, far from column `last` on, a straight line between."""
    return np.tile(np.interp(np.arange(SHAPE[1]), [first, last], [NEAR, FAR]), (SHAPE[0], 1))


def test_abs_rel_of_a_scaled_map() -> None:
    assert metrics.abs_rel(1.1 * step(), step(), ALL) == pytest.approx(0.1)


def test_rmse_silog_and_delta_closed_forms() -> None:
    truth = step()
    assert metrics.rmse(truth + 0.25, truth, ALL) == pytest.approx(0.25)
    assert metrics.silog(3 * truth, truth, ALL) == pytest.approx(0, abs=1e-12)
    assert metrics.delta(1.3 * truth, truth, ALL) == 0
    assert metrics.delta(1.3 * truth, truth, ALL, power=2) == 1


def test_unmeasured_pixels_never_count() -> None:
    truth, pred, mask = step(), step(), ALL.copy()
    mask[4:20, 15:33] = False
    truth[~mask], pred[~mask] = 0, 77
    assert metrics.abs_rel(pred, truth, mask) == 0
    assert metrics.edge_abs_rel(pred, truth, mask) == 0
    assert metrics.soft_edge_error(pred, truth, mask) == 0
    assert metrics.boundary_f1(pred, truth, mask) == 1
    assert metrics.flying_pixels(pred, truth, mask) == 0
    assert not metrics.depth_edges(truth, mask)[~mask].any()


def test_nothing_measured_is_nan_and_no_warning() -> None:
    for metric in (metrics.abs_rel, metrics.edge_abs_rel, metrics.soft_edge_error, metrics.boundary_f1):
        assert np.isnan(metric(step(), np.zeros(SHAPE), np.zeros(SHAPE, dtype=bool)))


def test_a_map_without_edges_has_no_edge_metrics() -> None:
    flat = np.full(SHAPE, NEAR)
    for metric in (metrics.edge_abs_rel, metrics.soft_edge_error, metrics.boundary_f1, metrics.flying_pixels):
        assert np.isnan(metric(step(), flat, ALL))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_tiny_maps(shape: tuple[int, int]) -> None:
    truth, mask = step(shape[1] // 2, shape), np.ones(shape, dtype=bool)
    assert metrics.abs_rel(truth, truth, mask) == 0
    assert metrics.boundary_f1(truth, truth, mask) == 1 or not metrics.depth_edges(truth, mask).any()


def test_depth_edges_are_both_sides_of_the_step_and_the_band_is_symmetric() -> None:
    edges = metrics.depth_edges(step(24), ALL)
    assert edges.any(axis=0).nonzero()[0].tolist() == [23, 24]
    assert metrics.edge_band(edges, 4).all(axis=0).nonzero()[0].tolist() == list(range(19, 29))
    assert not metrics.depth_edges(step(24), ALL, jump=0.21).any()


def test_edge_abs_rel_sees_only_the_band() -> None:
    truth, pred = step(24), step(24)
    pred[:, 40:] = 99
    assert metrics.edge_abs_rel(pred, truth, ALL) == 0
    assert metrics.edge_abs_rel(1.1 * truth, truth, ALL) == pytest.approx(0.1)


def test_soft_edge_error_forgives_one_pixel_but_no_slope() -> None:
    assert metrics.soft_edge_error(step(25), step(24), ALL) == 0
    assert metrics.soft_edge_error(ramp(20, 28), step(24), ALL) > 0.01
    half = np.full(SHAPE, (NEAR + FAR) / 2)  # 0.2 m from either surface, at near and at far edge pixels
    expected = (0.2 / NEAR + 0.2 / FAR) / 2
    assert metrics.soft_edge_error(half, step(24), ALL) == pytest.approx(expected)


def test_boundary_f1_is_one_for_the_truth_at_any_scale() -> None:
    truth = step() * np.where(np.arange(SHAPE[0]) < 11, 1.0, 1.3)[:, None]
    for scale in (1, 0.01, 7):
        assert metrics.boundary_f1(scale * truth, truth, ALL) == pytest.approx(1)
    blurred = 0.5 * (truth + np.roll(truth, 1, axis=1))
    assert metrics.boundary_f1(7 * blurred, truth, ALL) == pytest.approx(
        metrics.boundary_f1(blurred, truth, ALL)
    )


def test_boundary_f1_tolerance() -> None:
    assert metrics.boundary_f1(step(25), step(24), ALL, tolerance=0) == 0
    assert metrics.boundary_f1(step(25), step(24), ALL, tolerance=1) == pytest.approx(1)
    assert metrics.boundary_f1(step(26), step(24), ALL, tolerance=1) == 0


def test_boundary_f1_direction_matters() -> None:
    inverted = NEAR + FAR - step()
    assert metrics.boundary_f1(inverted, step(), ALL) == 0


def test_boundary_f1_counts_false_edges_and_missing_ones() -> None:
    two_steps = step(24)
    two_steps[:, 36:] *= FAR / NEAR
    precision_half = metrics.boundary_f1(two_steps, step(24), ALL)
    recall_half = metrics.boundary_f1(step(24), two_steps, ALL)
    assert precision_half == pytest.approx(2 / 3)
    assert recall_half == pytest.approx(2 / 3)


def test_boundary_f1_weighs_thresholds_by_their_value() -> None:
    weak = step() ** (np.log(1.1) / np.log(FAR / NEAR))  # a step of 10 %: found at thresholds below 1.1 only
    levels = np.linspace(1.02, 1.15, 10)
    expected = levels[levels < 1.1].sum() / levels.sum()
    assert metrics.boundary_f1(weak, step(), ALL) == pytest.approx(expected)
    assert metrics.boundary_f1(weak, weak, ALL) == pytest.approx(
        1
    )  # thresholds without true edges do not exist


def test_boundary_f1_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    truth = 2 + 0.2 * rng.random((13, 17))
    pred = truth * (1 + 0.04 * rng.standard_normal(truth.shape))
    mask = np.ones(truth.shape, dtype=bool)
    assert metrics.boundary_f1(pred, truth, mask) == pytest.approx(_slow_f1(pred, truth))


def test_boundary_f1_does_not_blame_edges_whose_match_may_be_in_a_hole() -> None:
    mask = ALL.copy()
    mask[16:, 24:27] = False  # the true edge of the lower half lies here, unmeasured
    beside, far_away = step(24), step(24)
    beside[16:] = step(23)[16:]
    far_away[16:] = step(20)[16:]
    assert metrics.boundary_f1(beside, step(24), mask) == pytest.approx(1)
    assert metrics.boundary_f1(far_away, step(24), mask) < 0.9


def test_flying_pixels_hang_on_ramps_not_on_steps() -> None:
    truth = step(24)
    assert metrics.flying_pixels(truth, truth, ALL) == 0
    assert metrics.flying_pixels(step(26), truth, ALL) == 0
    in_the_middle = ((ramp(19, 28) - NEAR) / (FAR - NEAR))[0, 20:28]  # the 8 px whose window spans the step
    expected = np.mean(np.abs(in_the_middle - 0.5) < 1 / 6)
    assert metrics.flying_pixels(ramp(19, 28), truth, ALL) == pytest.approx(expected)
    assert 0.2 < expected < 0.6


def _slow_f1(pred: np.ndarray, truth: np.ndarray) -> float:
    """boundary_f1 with a tolerance of 1 px, pixel by pixel."""
    levels = np.linspace(1.02, 1.15, 10)
    scores, weights = [], []
    for t in levels:
        ours, theirs = _boundaries(pred, t), _boundaries(truth, t)
        if theirs:
            precision = np.mean([_has_match(b, theirs) for b in ours]) if ours else 0.0
            recall = np.mean([_has_match(b, ours) for b in theirs])
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
            weights.append(t)
    return float(np.average(scores, weights=weights))


def _boundaries(depth: np.ndarray, t: float) -> set[tuple[str, int, int]]:
    """(direction, row, column) of all pairs whose ratio exceeds t."""
    found = set()
    for y, x in np.ndindex(depth.shape):
        for name, dy, dx in (("right", 0, 1), ("down", 1, 0)):
            if y + dy < depth.shape[0] and x + dx < depth.shape[1]:
                here, there = depth[y, x], depth[y + dy, x + dx]
                if max(here, there) / min(here, there) > t:
                    found.add((name + ("+" if there > here else "-"), y, x))
    return found


def _has_match(boundary: tuple[str, int, int], others: set[tuple[str, int, int]]) -> bool:
    direction, y, x = boundary
    return any((direction, y + dy, x + dx) in others for dy in (-1, 0, 1) for dx in (-1, 0, 1))
