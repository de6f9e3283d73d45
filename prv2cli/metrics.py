"""How good a depth map is, as numbers: accuracy everywhere, accuracy at depth edges, sharpness of the edges.

    abs_rel  rmse  silog  delta            everywhere, as the depth papers define them
    edge_abs_rel  soft_edge_error          near the depth edges of the truth
    boundary_f1  flying_pixels             is an edge a step, and is it in the right place

Every function takes `pred` and `truth`, (H, W) floats in metres, and `mask`, (H, W) bool: True where the
truth was measured. Pixels outside the mask never count. Results are plain fractions (0.1 is 10 %); NaN means
"nothing to measure here", and belongs in no mean. Higher is better for `delta` and `boundary_f1`, lower for
the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatMap = npt.NDArray[np.floating[Any]]  # (H, W)
BoolMap = npt.NDArray[np.bool_]  # (H, W)

EDGE_JUMP = 0.03  # neighbouring depths whose ratio exceeds 1.03 form a depth edge
EDGE_RADIUS = 4  # px: "near an edge"
F1_THRESHOLDS = (1.02, 1.15)  # first and last depth ratio of boundary_f1
_TINY = 1e-6  # metres: keeps ratios of depths finite


def abs_rel(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Mean of |pred - truth| / truth."""
    return _mean(np.abs(pred[mask] - truth[mask]) / truth[mask])


def rmse(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Root of the mean squared error, metres."""
    return float(np.sqrt(_mean((pred[mask] - truth[mask]) ** 2)))


def silog(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Standard deviation of log pred - log truth: blind to the overall scale. Papers print it times 100."""
    error = np.log(np.maximum(pred[mask], _TINY)) - np.log(truth[mask])
    return float(error.std()) if error.size else float("nan")


def delta(pred: FloatMap, truth: FloatMap, mask: BoolMap, power: int = 1) -> float:
    """Share of pixels where the larger depth is less than 1.25^power times the smaller."""
    p, t = np.maximum(pred[mask], _TINY), truth[mask]
    return _mean(np.maximum(p / t, t / p) < 1.25**power)


def depth_edges(truth: FloatMap, mask: BoolMap, jump: float = EDGE_JUMP) -> BoolMap:
    """Pixels on either side of a depth edge: measured 4-neighbours whose ratio of depths exceeds 1 + jump."""
    edges = np.zeros(truth.shape, dtype=bool)
    for a, b in _neighbours(truth, mask):
        steep = np.abs(_log_ratio(truth[a], truth[b])) > np.log1p(jump)
        steep &= mask[a] & mask[b]
        edges[a] |= steep
        edges[b] |= steep
    return edges


def edge_band(edges: BoolMap, radius: int = EDGE_RADIUS) -> BoolMap:
    """Pixels whose (2 radius + 1)^2 neighbourhood holds an edge pixel."""
    return _window_max(edges, radius)


def edge_abs_rel(
    pred: FloatMap, truth: FloatMap, mask: BoolMap, jump: float = EDGE_JUMP, radius: int = EDGE_RADIUS
) -> float:
    """abs_rel over the measured pixels within `radius` px of a depth edge of the truth."""
    return abs_rel(pred, truth, mask & edge_band(depth_edges(truth, mask, jump), radius))


def soft_edge_error(pred: FloatMap, truth: FloatMap, mask: BoolMap, jump: float = EDGE_JUMP) -> float:
    """SEE: error at depth edges that forgives a displaced step (either surface will do) but not a slope.

    Per edge pixel p of the truth (`depth_edges`): the minimum of |pred(p) - truth(q)| over the measured
    pixels q of the 3x3 neighbourhood of p, divided by truth(p) so that near and far scenes average fairly.
    Then the mean over p. The papers' SEE is the same without the division.
    """
    ys, xs = np.nonzero(depth_edges(truth, mask, jump))
    padded = np.pad(np.where(mask, truth, np.inf), 1, constant_values=np.inf)
    shifts = [(dy, dx) for dy in range(3) for dx in range(3)]
    error = np.full(ys.shape, np.inf)
    for dy, dx in shifts:
        error = np.minimum(error, np.abs(pred[ys, xs] - padded[ys + dy, xs + dx]))
    return _mean(error / truth[ys, xs])


def boundary_f1(
    pred: FloatMap,
    truth: FloatMap,
    mask: BoolMap,
    tolerance: int = 1,
    thresholds: tuple[float, float] = F1_THRESHOLDS,
    steps: int = 10,
) -> float:
    """Scale-invariant boundary F1 after Depth Pro (arXiv 2410.02073), with a tolerance in pixels.

    A boundary lies between two 4-neighbours whose ratio of depths exceeds t; it has one of four directions
    (which side is farther). A boundary of one map is matched if the other map has one of the same direction
    at most `tolerance` px away along each axis. Precision and recall pool the four directions; F1 is
    averaged over `steps` values of t, weighted by t. Values at which the truth has no boundary are left
    out: recall does not exist there.

    Only pairs of measured pixels count, and a predicted boundary without a match is not held against the
    prediction where the match may be hidden in a hole (`tolerance` px around each unmeasured pair).
    """
    levels = np.linspace(*thresholds, steps)
    counts = np.zeros((4, steps))
    for a, b in _neighbours(truth, mask):
        known = mask[a] & mask[b]
        hidden = _window_max(~known, tolerance)
        true_ratio = np.where(known, _log_ratio(truth[a], truth[b]), 0)
        pred_ratio = np.where(known, _log_ratio(pred[a], pred[b]), 0)
        for sign in (1, -1):
            counts += _count_matches(sign * true_ratio, sign * pred_ratio, hidden, tolerance, np.log(levels))
    return _weighted_f1(counts, levels)


def flying_pixels(
    pred: FloatMap, truth: FloatMap, mask: BoolMap, jump: float = EDGE_JUMP, radius: int = EDGE_RADIUS
) -> float:
    """Share of the pixels near a depth edge that hang in the air between its two surfaces.

    The two surfaces of a pixel are the smallest and the largest measured depth within `radius` px, where
    these form an edge (ratio above 1 + jump); the pixel flies if its predicted depth lies in the middle
    third between them. Pixels whose true depth lies there too (a third surface, a steep one) are left out.
    """
    near = -_window_max(np.where(mask, -truth, -np.inf), radius)
    far = _window_max(np.where(mask, truth, -np.inf), radius)
    chosen = mask & edge_band(depth_edges(truth, mask, jump), radius) & (far > near * (1 + jump))
    near, far = near[chosen], far[chosen]
    middle, sixth = (near + far) / 2, (far - near) / 6
    flies, true_middle = (np.abs(depth[chosen] - middle) < sixth for depth in (pred, truth))
    return _mean(flies[~true_middle])


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def _neighbours(truth: FloatMap, mask: BoolMap) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Two index pairs, (left, right) and (upper, lower): map[a], map[b] are all pairs of 4-neighbours."""
    if truth.shape != mask.shape or truth.ndim != 2:
        raise ValueError(f"expected two maps (H, W) of one size, got {truth.shape} and {mask.shape}")
    everything, first, second = slice(None), slice(None, -1), slice(1, None)
    return [((everything, first), (everything, second)), ((first, everything), (second, everything))]


def _log_ratio(a: FloatMap, b: FloatMap) -> FloatMap:
    """log(b / a); depths that are not positive count as tiny, so that holes raise no warnings."""
    log_a, log_b = (np.log(np.maximum(depth, _TINY, dtype=np.float64)) for depth in (a, b))
    return np.asarray(log_b - log_a)


def _window_max(values: npt.NDArray[Any], radius: int) -> npt.NDArray[Any]:
    """Largest value of each (2 radius + 1)^2 window, cut at the border; on a mask: dilation."""
    for axis in (0, 1):
        source = np.moveaxis(values, axis, 0)
        largest = source.copy()
        for shift in range(1, min(radius, len(source) - 1) + 1):
            np.maximum(largest[shift:], source[:-shift], out=largest[shift:])
            np.maximum(largest[:-shift], source[shift:], out=largest[:-shift])
        values = np.moveaxis(largest, 0, axis)
    return values


def _count_matches(
    truth: FloatMap, pred: FloatMap, hidden: BoolMap, tolerance: int, levels: FloatMap
) -> npt.NDArray[Any]:
    """(4, levels): matched and all boundaries of the truth, matched and counted ones of the prediction.

    truth, pred: log ratios in one direction. A boundary above a level is matched exactly if the window
    maximum of the other map is above that level too, so one sorted list serves all levels.
    """
    matched_truth = np.minimum(truth, _window_max(pred, tolerance))
    matched_pred = np.minimum(pred, _window_max(truth, tolerance))
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
    f1 = 2 * precision * recall / np.maximum(precision + recall, _TINY)
    return float(np.average(f1, weights=levels[counts[1] > 0]))
