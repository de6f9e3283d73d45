"""Both boundary F1 against plain loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from metric_cases import ALL, FAR, NEAR, SHAPE, step

from prv2cli.evaluation.metrics.boundary_f1 import boundary_f1, depth_pro_f1


def test_boundary_f1_is_one_for_the_truth_at_any_scale() -> None:
    truth = step() * np.where(np.arange(SHAPE[0]) < 11, 1.0, 1.3)[:, None]
    for scale in (1, 0.01, 7):
        assert boundary_f1(scale * truth, truth, ALL) == pytest.approx(1)
    blurred = 0.5 * (truth + np.roll(truth, 1, axis=1))
    assert boundary_f1(7 * blurred, truth, ALL) == pytest.approx(boundary_f1(blurred, truth, ALL))


def test_boundary_f1_tolerance() -> None:
    assert boundary_f1(step(25), step(24), ALL) == pytest.approx(1)
    assert boundary_f1(step(26), step(24), ALL) == 0


def test_boundary_f1_direction_matters() -> None:
    inverted = NEAR + FAR - step()
    assert boundary_f1(inverted, step(), ALL) == 0


def test_boundary_f1_counts_false_edges_and_missing_ones() -> None:
    two_steps = step(24)
    two_steps[:, 36:] *= FAR / NEAR
    precision_half = boundary_f1(two_steps, step(24), ALL)
    recall_half = boundary_f1(step(24), two_steps, ALL)
    assert precision_half == pytest.approx(2 / 3)
    assert recall_half == pytest.approx(2 / 3)


def test_boundary_f1_weighs_thresholds_by_their_value() -> None:
    weak = step() ** (np.log(1.1) / np.log(FAR / NEAR))  # a step of 10 %: found at thresholds below 1.1 only
    levels = np.linspace(1.02, 1.15, 10)
    expected = levels[levels < 1.1].sum() / levels.sum()
    assert boundary_f1(weak, step(), ALL) == pytest.approx(expected)
    assert boundary_f1(weak, weak, ALL) == pytest.approx(1)  # thresholds without true edges do not exist


def test_boundary_f1_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    truth = 2 + 0.2 * rng.random((13, 17))
    pred = truth * (1 + 0.04 * rng.standard_normal(truth.shape))
    mask = np.ones(truth.shape, dtype=bool)
    assert boundary_f1(pred, truth, mask) == pytest.approx(_slow_f1(pred, truth))


def test_boundary_f1_does_not_blame_edges_whose_match_may_be_in_a_hole() -> None:
    mask = ALL.copy()
    mask[16:, 24:27] = False  # the true edge of the lower half lies here, unmeasured
    beside, far_away = step(24), step(24)
    beside[16:] = step(23)[16:]
    far_away[16:] = step(20)[16:]
    assert boundary_f1(beside, step(24), mask) == pytest.approx(1)
    assert boundary_f1(far_away, step(24), mask) < 0.9


def test_depth_pro_f1_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    truth = 2 + 0.5 * rng.random((13, 17))
    pred = truth * (1 + 0.05 * rng.standard_normal(truth.shape))
    levels = np.linspace(1.05, 1.25, 10)
    scores = []
    for t in levels:
        ours, theirs = _boundaries(pred, t), _boundaries(truth, t)
        recalls, precisions = [], []
        for direction in ("right+", "right-", "down+", "down-"):
            p, g = ({b for b in found if b[0] == direction} for found in (ours, theirs))
            recalls.append(len(p & g) / max(len(g), 1))
            precisions.append(len(p & g) / max(len(p), 1))
        recall, precision = float(np.mean(recalls)), float(np.mean(precisions))
        scores.append(2 * recall * precision / (recall + precision) if recall + precision else 0.0)
    got = depth_pro_f1(pred, truth, np.ones(truth.shape, dtype=bool))
    assert got == pytest.approx(np.average(scores, weights=levels))
    assert 0.2 < got < 0.9


def test_depth_pro_f1_by_hand() -> None:
    levels = np.linspace(1.05, 1.25, 10)
    found = (
        levels[levels < FAR / NEAR].sum() / levels.sum()
    )  # one direction of four, at thresholds below the step
    assert depth_pro_f1(3 * step(), step(), ALL) == pytest.approx(found / 4)
    assert depth_pro_f1(step(25), step(24), ALL) == 0
    assert np.isnan(depth_pro_f1(step(), np.full(SHAPE, NEAR), ALL))
    mask = ALL.copy()
    mask[:, 24] = False  # the pair across the step is not measured
    assert np.isnan(depth_pro_f1(step(), step(), mask))


def _slow_f1(pred: np.ndarray, truth: np.ndarray) -> float:
    """boundary_f1 with a tolerance of 1 px, pixel by pixel."""
    levels = np.linspace(1.02, 1.15, 10)
    scores, weights = [], []
    for t in levels:
        ours, theirs = _boundaries(pred, t), _boundaries(truth, t)
        if theirs:
            precision = float(np.mean([_has_match(b, theirs) for b in ours])) if ours else 0.0
            recall = float(np.mean([_has_match(b, ours) for b in theirs]))
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
