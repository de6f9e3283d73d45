"""Are the boundaries of a depth map in the right place? Depth Pro's scale-invariant F1, as published and forgiving;
MoGe's; and Depth Pro's recall of the outline of mattes.

Arguments and results as in pixels.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from prv2cli.evaluation.metrics.edges import TINY, BoolMap, FloatMap, log_ratio, neighbours, window_max

F1_THRESHOLDS = (1.02, 1.15)  # first and last depth ratio of boundary_f1
DEPTH_PRO_THRESHOLDS = (1.05, 1.25)
MOGE_THRESHOLDS = (0.05, 0.25)  # what the ratio exceeds 1 by
STEPS = 10
TOLERANCE = 1  # px, along each axis
IN_FRONT = 0.1  # alpha of a matte from which a pixel is in front
_LEFT, _RIGHT = np.s_[:, :-1], np.s_[:, 1:]


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


def moge_f1(pred: FloatMap, truth: FloatMap, mask: BoolMap, radius: int = 1) -> float:
    """MoGe's boundary F1 (arXiv 2507.02546, and its authors' evaluation): within a disc of `radius` px.

    A boundary lies between a pixel and any other at most `radius` px away that is more than 1 + t times as deep. It is
    found if the prediction has one between the same two. F1 is averaged over STEPS values of t, weighted by t; one at
    which a map has no boundary counts as zero. NaN where the truth has no boundary at all.

    Pixels closer to the map's border than `radius` have no disc, and only measured pairs count.
    """
    levels = np.linspace(*MOGE_THRESHOLDS, STEPS)
    counts = np.zeros((3, STEPS))
    for centre, other in _disc_pairs(truth.shape, radius):
        known = mask[centre] & mask[other]
        true_ratio, pred_ratio = (
            depth[other][known] / np.maximum(depth[centre][known], TINY) for depth in (truth, pred)
        )
        ratios = true_ratio, pred_ratio, np.minimum(true_ratio, pred_ratio)
        counts += [_count_above(r, 1 + levels) for r in ratios]
    in_truth, in_pred, in_both = counts
    if not in_truth.any():
        return float("nan")
    f1 = 2 * in_both / np.maximum(in_truth + in_pred, 1)
    return float(np.average(f1, weights=levels))


def matte_recall(pred: FloatMap, matte: FloatMap) -> float:
    """Depth Pro's boundary recall on mattes (arXiv 2410.02073): is the outline of what is in front a depth edge?

    The outline lies between two 4-neighbours of which one alone has an alpha above IN_FRONT, in one of four
    directions. It is found at t if the depth there rises outwards by more than t; of neighbouring pairs along the
    direction that all do, only the steepest counts, the first where several are. The mean over the directions (one
    without an outline counts as zero) is averaged over STEPS values of t weighted by t, from 1.05 to 1.25. NaN without
    an outline.

    Args:
        pred: (H, W) in any unit; infinite is behind all else; at NaN and what is not above 0 there are no edges.
        matte: (H, W) 0..1, how much of a pixel is in front.
    """
    front = matte > IN_FRONT
    depth = np.where(pred > 0, pred, np.nan)
    levels = np.linspace(*DEPTH_PRO_THRESHOLDS, STEPS)
    recalls, outlines = [], 0
    for inside, seen in ((front, depth), (front.T, depth.T)):
        for near, far in ((_LEFT, _RIGHT), (_RIGHT, _LEFT)):
            with np.errstate(invalid="ignore"):  # infinite by infinite: no edge
                outline, ratio = inside[near] & ~inside[far], seen[far] / seen[near]
            found = [int((_steepest(ratio, t) & outline).sum()) for t in levels]
            recalls.append(np.array(found) / max(int(outline.sum()), 1))
            outlines += int(outline.sum())
    if not outlines:
        return float("nan")
    return float(np.average(np.mean(recalls, axis=0), weights=levels))


def _steepest(ratio: FloatMap, level: float) -> BoolMap:
    """Of each run of values above `level` along a row, the largest; the first where several are."""
    above = ratio > level
    starts = above.copy()
    starts[:, 1:] &= ~above[:, :-1]
    chosen = np.zeros_like(above)
    values, run = ratio[above], np.cumsum(starts[above]) - 1
    if values.size:
        largest = np.maximum.reduceat(values, np.flatnonzero(starts[above]))
        peaks = np.flatnonzero(values == largest[run])
        first = peaks[np.unique(run[peaks], return_index=True)[1]]
        chosen[tuple(index[first] for index in np.nonzero(above))] = True
    return chosen


def _disc_pairs(
    shape: tuple[int, ...], radius: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Index pairs (centre, other) of all pixels with a whole disc around them and one of its pixels."""
    height, width = (max(side - 2 * radius, 0) for side in shape)
    centre = slice(radius, radius + height), slice(radius, radius + width)
    for dy, dx in product(range(-radius, radius + 1), repeat=2):
        if 0 < dy * dy + dx * dx <= radius * radius:
            top, left = radius + dy, radius + dx
            yield centre, (slice(top, top + height), slice(left, left + width))


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
