"""Are the boundaries of a depth map in the right place? Depth Pro's scale-invariant F1, as published and forgiving.

Arguments and results as in pixels.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prv2cli.evaluation.metrics.edges import TINY, BoolMap, FloatMap, log_ratio, neighbours, window_max

F1_THRESHOLDS = (1.02, 1.15)  # first and last depth ratio of boundary_f1
DEPTH_PRO_THRESHOLDS = (1.05, 1.25)
STEPS = 10
TOLERANCE = 1  # px, along each axis


def boundary_f1(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Scale-invariant boundary F1 after Depth Pro (arXiv 2410.02073), with a tolerance of a pixel.

    A boundary lies between two 4-neighbours whose ratio of depths exceeds t; it has one of four directions
    (which side is farther). A boundary of one map is matched if the other map has one of the same direction
    at most TOLERANCE px away along each axis. Precision and recall pool the four directions; F1 is
    averaged over STEPS values of t, weighted by t. Values at which the truth has no boundary are left
    out: recall does not exist there.

    Only pairs of measured pixels count, and a predicted boundary without a match is not held against the
    prediction where the match may be hidden in a hole (TOLERANCE px around each unmeasured pair).
    """
    levels = np.linspace(*F1_THRESHOLDS, STEPS)
    counts = np.zeros((4, STEPS))
    for a, b in neighbours(truth, mask):
        known = mask[a] & mask[b]
        hidden = window_max(~known, TOLERANCE)
        true_ratio = np.where(known, log_ratio(truth[a], truth[b]), 0)
        pred_ratio = np.where(known, log_ratio(pred[a], pred[b]), 0)
        for sign in (1, -1):
            counts += _count_matches(sign * true_ratio, sign * pred_ratio, hidden, np.log(levels))
    return _weighted_f1(counts, levels)


def depth_pro_f1(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Depth Pro's scale-invariant boundary F1, as published (arXiv 2410.02073): no tolerance.

    A boundary lies between two 4-neighbours whose ratio of depths exceeds t, in one of four directions. Precision and
    recall are means over the directions, F1 a mean over t weighted by t. A direction or a t without
    boundaries counts as zero, so that even the truth itself may score less than one. `boundary_f1` is the
    forgiving relative. NaN where the truth has no boundary at all.

    Only pairs of measured pixels count.
    """
    levels = np.linspace(*DEPTH_PRO_THRESHOLDS, STEPS)
    counts = []
    for a, b in neighbours(truth, mask):
        known = mask[a] & mask[b]
        true_ratio, pred_ratio = (log_ratio(depth[a][known], depth[b][known]) for depth in (truth, pred))
        for sign in (1, -1):
            ratios = sign * true_ratio, sign * pred_ratio, np.minimum(sign * true_ratio, sign * pred_ratio)
            counts.append([_count_above(r, np.log(levels)) for r in ratios])
    in_truth, in_pred, in_both = np.moveaxis(np.asarray(counts, dtype=float), 1, 0)  # (4, STEPS) each
    if not in_truth.any():
        return float("nan")
    recall = (in_both / np.maximum(in_truth, 1)).mean(axis=0)
    precision = (in_both / np.maximum(in_pred, 1)).mean(axis=0)
    f1 = 2 * precision * recall / np.maximum(precision + recall, TINY)
    return float(np.average(f1, weights=levels))


def _count_matches(truth: FloatMap, pred: FloatMap, hidden: BoolMap, levels: FloatMap) -> npt.NDArray[Any]:
    """(4, levels): matched and all boundaries of the truth, matched and counted ones of the prediction.

    truth, pred: log ratios in one direction. A boundary above a level is matched exactly if the window
    maximum of the other map is above that level too, so one sorted list serves all levels.
    """
    matched_truth = np.minimum(truth, window_max(pred, TOLERANCE))
    matched_pred = np.minimum(pred, window_max(truth, TOLERANCE))
    counted_pred = np.where(hidden, matched_pred, pred)
    return np.stack([_count_above(m, levels) for m in (matched_truth, truth, matched_pred, counted_pred)])


def _count_above(values: FloatMap, levels: FloatMap) -> npt.NDArray[Any]:
    candidates = np.sort(values[values > levels[0]])
    return len(candidates) - np.searchsorted(candidates, levels, side="right")


def _weighted_f1(counts: npt.NDArray[Any], levels: FloatMap) -> float:
    matched_truth, all_truth, matched_pred, all_pred = counts[:, counts[1] > 0]
    if all_truth.size == 0:
        return float("nan")
    recall = matched_truth / all_truth
    precision = matched_pred / np.maximum(all_pred, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, TINY)
    return float(np.average(f1, weights=levels[counts[1] > 0]))
