"""How good a depth map is, as numbers: accuracy everywhere, accuracy at depth edges, sharpness of the edges.

    abs_rel  sq_rel  rmse  rmse_log  log10  silog  delta     everywhere, as the depth papers define them
    edge_abs_rel  soft_edge_error                            near the depth edges of the truth
    boundary_f1  flying_pixels                               is an edge a step, and is it in the right place
    paper_metrics  paper_soft_edge_error                     the table of PatchFusion and PatchRefiner (METHOD 4)
    edge_map_metrics  depth_pro_f1  consistency_error        boundaries and tile seams, as published

Unless said otherwise a function takes `pred` and `truth`, (H, W) floats in metres, and `mask`, (H, W) bool: True
where the truth was measured. Pixels outside the mask never count. Results are plain fractions (0.1 is 10 %); NaN
means "nothing to measure here", and belongs in no mean. Higher is better for `delta`, the two F1, and precision,
recall and agreement of edge maps; lower for the others.

Published figures come from truth within a range of depths and often a crop (`evaluated_pixels`) and a
prediction clipped to that range (`clip_depth`).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prv2cli.evaluation.edges import distance_to

FloatMap = npt.NDArray[np.floating[Any]]  # (H, W)
BoolMap = npt.NDArray[np.bool_]  # (H, W)
Crop = Literal["garg", "eigen-kitti", "eigen-nyu"]

EDGE_JUMP = 0.03  # neighbouring depths whose ratio exceeds 1.03 form a depth edge
EDGE_RADIUS = 4  # px: "near an edge"
F1_THRESHOLDS = (1.02, 1.15)  # first and last depth ratio of boundary_f1
DEPTH_PRO_THRESHOLDS = (1.05, 1.25)
EDGE_LIMIT = 10.0  # px: two boundaries farther apart have nothing to do with each other
EDGE_MATCH = 2  # px, along each axis, by which precision and recall of edge maps forgive
_TINY = 1e-6  # metres: keeps ratios of depths finite
_CROPS = {  # top, bottom, left, right as shares of the image
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen-kitti": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
_EIGEN_NYU = (480, 640), (slice(45, 471), slice(41, 601))  # the size it is made for, and rows and columns


def abs_rel(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Mean of |pred - truth| / truth."""
    return _mean(np.abs(pred[mask] - truth[mask]) / truth[mask])


def sq_rel(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Mean of (pred - truth)^2 / truth, metres."""
    return _mean((pred[mask] - truth[mask]) ** 2 / truth[mask])


def rmse(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Root of the mean squared error, metres."""
    return float(np.sqrt(_mean((pred[mask] - truth[mask]) ** 2)))


def rmse_log(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Root of the mean squared difference of natural logarithms."""
    return float(np.sqrt(_mean(_log_ratio(truth[mask], pred[mask]) ** 2)))


def log10(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Mean difference of decimal logarithms."""
    return _mean(np.abs(_log_ratio(truth[mask], pred[mask]))) / float(np.log(10))


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
    edges = depth_edges(truth, mask, jump)
    return _mean(_soft_errors(pred, truth, mask, edges, radius=1) / truth[edges])


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


def evaluated_pixels(
    truth: FloatMap, min_depth: float, max_depth: float, crop: Crop | None = None
) -> BoolMap:
    """Where published figures are taken: truth strictly between two depths, inside the usual crop of a data set.

    Args:
        crop: "garg" and "eigen-kitti" are shares of the image; "eigen-nyu" is for 480 x 640 only.

    Raises:
        ValueError: "eigen-nyu" on a map of another size.
    """
    inside = np.zeros(truth.shape, dtype=bool)
    inside[_crop_window(truth.shape, crop)] = True
    inside &= (truth > min_depth) & (truth < max_depth)
    return inside


def clip_depth(pred: FloatMap, min_depth: float, max_depth: float) -> FloatMap:
    """A copy with depths brought into the range; NaN becomes the smallest depth, as in the authors' evaluation."""
    return np.clip(np.where(np.isnan(pred), min_depth, pred), min_depth, max_depth).astype(pred.dtype)


def paper_metrics(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> dict[str, float]:
    """The columns of the papers' tables (METHOD 4), in their order; silog times 100."""
    return {
        **{f"delta{n}": delta(pred, truth, mask, power=n) for n in (1, 2, 3)},
        "abs_rel": abs_rel(pred, truth, mask),
        "sq_rel": sq_rel(pred, truth, mask),
        "rmse": rmse(pred, truth, mask),
        "rmse_log": rmse_log(pred, truth, mask),
        "silog": 100 * silog(pred, truth, mask),
        "log10": log10(pred, truth, mask),
    }


def disparity_edges(disparity: FloatMap, threshold: float = 1.0, dilation: int = 0) -> BoolMap:
    """Pixels of which a 4-neighbour differs by more than `threshold` px of disparity (PatchFusion's edges).

    Args:
        disparity: (H, W) px.
        dilation: side in px of a square that thickens the edges; an even one reaches one pixel farther to the right
            and down than to the left and up.
    """
    edges = np.zeros(disparity.shape, dtype=bool)
    for a, b in _neighbours(disparity, np.ones(disparity.shape, dtype=bool)):
        steep = np.abs(disparity[b] - disparity[a]) > threshold
        edges[a] |= steep
        edges[b] |= steep
    if dilation > 1:
        edges = _window_max(edges, (dilation - 1) // 2, dilation // 2)
    return edges


def paper_soft_edge_error(
    pred: FloatMap, truth: FloatMap, mask: BoolMap, edges: BoolMap, radius: int = 1, *, exact: bool = False
) -> float:
    """The papers' SEE, metres: mean over the edge pixels of the smallest error within a shift of the truth.

    Args:
        mask: where the metric is evaluated; any positive truth may match, inside the mask or not.
        edges: (H, W) bool, `disparity_edges` of the truth.
        radius: px, the largest shift along each axis.
        exact: 0 instead of NaN without edge pixels, as in the authors' code, whose means it lowers.
    """
    errors = _soft_errors(pred, truth, truth > 0, mask & edges, radius)
    return 0.0 if exact and not errors.size else _mean(errors)


def edge_map_metrics(
    pred_edges: BoolMap, true_edges: BoolMap, mask: BoolMap, limit: float = EDGE_LIMIT, *, exact: bool = False
) -> dict[str, float]:
    """How well two edge maps agree, say `edges.canny_edges` of two depth maps.

    accuracy       px, mean distance of predicted edges to the nearest true one, of those closer than `limit`;
                   `limit` if there is none
    completeness   px, mean distance of true edges to the nearest predicted one, each at most `limit`
    precision, recall, f1, hamming (share of differing pixels), agreement (1 - hamming): of the edges
                   thickened by 2 px to each side, so that a shift of a pixel or two costs little

    Edges outside the mask do not count, but may be the nearest. NaN where the mask holds no true edge.

    Args:
        pred_edges, true_edges: (H, W) bool.
        exact: completeness as in the authors' code, where distances have no limit but the mean is `limit` if no
            predicted edge is accurate.

    Raises:
        MissingExtraError: scipy, which comes with scikit-image, is not installed.
    """
    to_truth, to_pred = distance_to(true_edges), distance_to(pred_edges)
    accurate = to_truth[pred_edges & mask & (to_truth < limit)]
    missed = to_pred[true_edges & mask]
    if not exact:
        missed = np.minimum(missed, limit)
    elif not accurate.size:
        missed = np.full_like(missed, limit)
    measurable = bool(missed.size)
    return {
        "accuracy": (_mean(accurate) if accurate.size else limit) if measurable else float("nan"),
        "completeness": _mean(missed),
        **_overlap(
            edge_band(pred_edges, EDGE_MATCH)[mask], edge_band(true_edges, EDGE_MATCH)[mask], measurable
        ),
    }


def depth_pro_f1(
    pred: FloatMap,
    truth: FloatMap,
    mask: BoolMap,
    thresholds: tuple[float, float] = DEPTH_PRO_THRESHOLDS,
    steps: int = 10,
) -> float:
    """Depth Pro's scale-invariant boundary F1, as published (arXiv 2410.02073): no tolerance.

    A boundary lies between two 4-neighbours whose ratio of depths exceeds t, in one of four directions. Precision and
    recall are means over the directions, F1 a mean over t weighted by t. A direction or a t without
    boundaries counts as zero, so that even the truth itself may score less than one. `boundary_f1` is the
    forgiving relative. NaN where the truth has no boundary at all.

    Only pairs of measured pixels count.
    """
    levels = np.linspace(*thresholds, steps)
    counts = []
    for a, b in _neighbours(truth, mask):
        known = mask[a] & mask[b]
        true_ratio, pred_ratio = (_log_ratio(depth[a][known], depth[b][known]) for depth in (truth, pred))
        for sign in (1, -1):
            ratios = sign * true_ratio, sign * pred_ratio, np.minimum(sign * true_ratio, sign * pred_ratio)
            counts.append([_count_above(r, np.log(levels)) for r in ratios])
    in_truth, in_pred, in_both = np.moveaxis(np.asarray(counts, dtype=float), 1, 0)  # (4, steps) each
    if not in_truth.any():
        return float("nan")
    recall = (in_both / np.maximum(in_truth, 1)).mean(axis=0)
    precision = (in_both / np.maximum(in_pred, 1)).mean(axis=0)
    f1 = 2 * precision * recall / np.maximum(precision + recall, _TINY)
    return float(np.average(f1, weights=levels))


def consistency_error(tiles: npt.NDArray[np.floating[Any]], overlap: tuple[int, int]) -> float:
    """Tile consistency error (PatchFusion), metres: mean |difference| of neighbouring tiles where they overlap.

    Args:
        tiles: (rows, columns, h, w) metres, a regular grid of predictions, not blended.
        overlap: px that tiles share with the one below, and with the one to the right. The papers: 270, 270 of
            540 x 960.

    Returns:
        NaN for a single tile, or without overlap.
    """
    height, width = tiles.shape[2:]
    down, across = overlap
    if not (0 <= down <= height and 0 <= across <= width):
        raise ValueError(f"tiles of {height} x {width} px cannot overlap by {down} and {across} px")
    vertical = np.abs(tiles[:-1, :, height - down :] - tiles[1:, :, :down])
    horizontal = np.abs(tiles[:, :-1, :, width - across :] - tiles[:, 1:, :, :across])
    return _mean(np.concatenate([vertical.ravel(), horizontal.ravel()]))


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


def _crop_window(shape: tuple[int, ...], crop: Crop | None) -> tuple[slice, ...]:
    if crop is None:
        return (slice(None), slice(None))
    if crop == "eigen-nyu":
        size, window = _EIGEN_NYU
        if shape != size:
            raise ValueError(f"the crop 'eigen-nyu' is for maps of 480 x 640, got {shape[0]} x {shape[1]}")
        return window
    height, width = shape
    top, bottom, left, right = _CROPS[crop]
    return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))


def _soft_errors(
    pred: FloatMap, truth: FloatMap, known: BoolMap, chosen: BoolMap, radius: int
) -> npt.NDArray[np.floating[Any]]:
    """Per chosen pixel: the smallest |pred - truth| over the known truth within `radius` px along each axis."""
    ys, xs = np.nonzero(chosen)
    padded = np.pad(np.where(known, truth, np.inf), radius, constant_values=np.inf)
    error = np.full(ys.shape, np.inf)
    for dy, dx in np.ndindex(2 * radius + 1, 2 * radius + 1):
        error = np.minimum(error, np.abs(pred[ys, xs] - padded[ys + dy, xs + dx]))
    return error


def _overlap(pred: BoolMap, truth: BoolMap, measurable: bool) -> dict[str, float]:
    """Scores of a binary classification; without anything to find only the share of errors exists."""
    both = int((pred & truth).sum())
    differing = _mean(pred != truth)
    scores = {
        "precision": both / max(int(pred.sum()), 1),
        "recall": both / max(int(truth.sum()), 1),
        "f1": 2 * both / max(int(pred.sum()) + int(truth.sum()), 1),
    }
    if not measurable:
        scores = dict.fromkeys(scores, float("nan"))
    return {**scores, "hamming": differing, "agreement": 1 - differing}


def _window_max(values: npt.NDArray[Any], before: int, after: int | None = None) -> npt.NDArray[Any]:
    """Largest value of each (2 before + 1)^2 window, cut at the border; on a mask: dilation.

    With `after`, a value reaches `before` px up and left, and `after` px down and right.
    """
    after = before if after is None else after
    for axis in (0, 1):
        source = np.moveaxis(values, axis, 0)
        largest = source.copy()
        for shift in range(1, min(after, len(source) - 1) + 1):
            np.maximum(largest[shift:], source[:-shift], out=largest[shift:])
        for shift in range(1, min(before, len(source) - 1) + 1):
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
