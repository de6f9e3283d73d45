"""Both boundary F1 against plain loops and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from metric_cases import ALL, FAR, NEAR, SHAPE, step

from prv2cli.evaluation.metrics.boundary_f1 import (
    boundary_f1,
    depth_pro_f1,
    matte_recall,
    moge_f1,
)


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


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_moge_f1_against_plain_loops(radius: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = 2 + 0.5 * rng.random((13, 17))
    pred = truth * (1 + 0.05 * rng.standard_normal(truth.shape))
    mask = rng.random(truth.shape) > 0.1
    total, weights = 0.0, 0.0
    for t in np.linspace(0.05, 0.25, 10):
        ours, theirs = (_within(depth, mask, radius, t) for depth in (pred, truth))
        both = len(ours & theirs)
        precision, recall = both / max(len(ours), 1), both / max(len(theirs), 1)
        total += t * (2 * precision * recall / (precision + recall) if both else 0)
        weights += t
    got = moge_f1(pred, truth, mask, radius)
    assert got == pytest.approx(total / weights)
    assert 0.3 < got < 0.95


def test_moge_f1_by_hand() -> None:
    levels = np.linspace(0.05, 0.25, 10)
    found = (
        levels[levels < FAR / NEAR - 1].sum() / levels.sum()
    )  # steps steeper than the one there are none of
    assert moge_f1(3 * step(), step(), ALL) == pytest.approx(found)
    assert moge_f1(step(25), step(24), ALL) == 0
    # In the disc 3 offsets cross the step from one column and 1 from two; one column off, a single one of 5 agrees.
    assert moge_f1(step(25), step(24), ALL, radius=2) == pytest.approx(found / 5)
    assert np.isnan(moge_f1(step(), np.full(SHAPE, NEAR), ALL))
    assert np.isnan(moge_f1(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2), bool), radius=3))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_matte_recall_against_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matte = rng.random((12, 15)) ** 2
    depth = np.where(matte > 0.1, 2, 2.3) * (1 + 0.08 * rng.standard_normal(matte.shape))
    depth[3, 4] = np.nan
    levels = np.linspace(1.05, 1.25, 10)
    scores = [_slow_recall(depth, matte > 0.1, t) for t in levels]
    got = matte_recall(depth, matte)
    assert got == pytest.approx(np.average(scores, weights=levels))
    assert 0.1 < got < 0.9


def test_matte_recall_by_hand() -> None:
    levels = np.linspace(1.05, 1.25, 10)
    found = levels[levels < FAR / NEAR].sum() / levels.sum()
    matte = (step() == NEAR).astype(float)
    assert matte_recall(7 * step(), matte) == pytest.approx(found / 4)  # one direction of four
    assert matte_recall(NEAR + FAR - step(), matte) == 0  # what is in front must be nearer
    ramp = np.where(np.arange(SHAPE[1]) < 24, 2.0, 3.0)
    ramp[25:] *= 1.5  # rises by as much again at the next column: the first of equals counts
    assert matte_recall(np.tile(ramp, (SHAPE[0], 1)), matte) == pytest.approx(1 / 4)
    ramp[25:] *= 1.1  # a steeper one beside the outline takes its place
    assert matte_recall(np.tile(ramp, (SHAPE[0], 1)), matte) == 0
    assert np.isnan(matte_recall(step(), np.zeros(SHAPE)))


def _within(depth: np.ndarray, mask: np.ndarray, radius: int, t: float) -> set[tuple[int, int, int, int]]:
    """(pixel, other pixel) of all measured pairs within the disc whose ratio exceeds 1 + t."""
    found = set()
    height, width = depth.shape
    for y in range(radius, height - radius):
        for x in range(radius, width - radius):
            for v, u in np.ndindex(depth.shape):
                near = (v - y) ** 2 + (u - x) ** 2 <= radius**2
                if near and mask[y, x] and mask[v, u] and depth[v, u] / depth[y, x] > 1 + t:
                    found.add((y, x, v, u))
    return found


def _slow_recall(depth: np.ndarray, front: np.ndarray, t: float) -> float:
    """The recall at one threshold, line by line in each of four directions."""
    recalls = []
    for turns in range(4):
        turned, inside = np.rot90(depth, turns), np.rot90(front, turns)
        hits = outlines = 0
        for line, within in zip(turned, inside, strict=True):
            ratios = [b / a if np.isfinite(b / a) else 0.0 for a, b in itertools.pairwise(line)]
            runs: list[list[int]] = []
            for x, ratio in enumerate(ratios):
                if ratio > t and runs and runs[-1][-1] == x - 1:
                    runs[-1].append(x)
                elif ratio > t:
                    runs.append([x])
            peaks = {max(run, key=lambda x: ratios[x]) for run in runs}
            border = {x for x in range(len(ratios)) if within[x] and not within[x + 1]}
            hits, outlines = hits + len(peaks & border), outlines + len(border)
        recalls.append(hits / max(outlines, 1))
    return float(np.mean(recalls))


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
