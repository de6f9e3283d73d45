"""How good a depth map is at the depth edges of the truth. Arguments and results as in pixels.py.

edge_abs_rel  soft_edge_error  flying_pixels     by the edges between neighbours
paper_soft_edge_error  edge_map_metrics          as published
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prv2cli.evaluation.metrics.edges import (
    EDGE_JUMP,
    EDGE_RADIUS,
    BoolMap,
    FloatMap,
    depth_edges,
    distance_to,
    edge_band,
    window_max,
)
from prv2cli.evaluation.metrics.pixels import abs_rel, mean

EDGE_LIMIT = 10.0  # px: two boundaries farther apart have nothing to do with each other
EDGE_MATCH = 2  # px, along each axis, by which precision and recall of edge maps forgive


def edge_abs_rel(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """abs_rel over the measured pixels within EDGE_RADIUS px of a depth edge of the truth."""
    return abs_rel(pred, truth, mask & edge_band(depth_edges(truth, mask)))


def soft_edge_error(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """SEE: error at depth edges that forgives a displaced step (either surface will do) but not a slope.

    Per edge pixel p of the truth (`depth_edges`): the minimum of |pred(p) - truth(q)| over the measured
    pixels q of the 3x3 neighbourhood of p, divided by truth(p) so that near and far scenes average fairly.
    Then the mean over p. The papers' SEE is the same without the division.
    """
    edges = depth_edges(truth, mask)
    return mean(_soft_errors(pred, truth, mask, edges) / truth[edges])


def flying_pixels(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Share of the pixels near a depth edge that hang in the air between its two surfaces.

    The two surfaces of a pixel are the smallest and the largest measured depth within EDGE_RADIUS px, where
    these form an edge; the pixel flies if its predicted depth lies in the middle
    third between them. Pixels whose true depth lies there too (a third surface, a steep one) are left out.
    """
    near = -window_max(np.where(mask, -truth, -np.inf), EDGE_RADIUS)
    far = window_max(np.where(mask, truth, -np.inf), EDGE_RADIUS)
    chosen = mask & edge_band(depth_edges(truth, mask)) & (far > near * (1 + EDGE_JUMP))
    near, far = near[chosen], far[chosen]
    middle, sixth = (near + far) / 2, (far - near) / 6
    flies, true_middle = (np.abs(depth[chosen] - middle) < sixth for depth in (pred, truth))
    return mean(flies[~true_middle])


def paper_soft_edge_error(
    pred: FloatMap, truth: FloatMap, mask: BoolMap, edges: BoolMap, *, exact: bool = False
) -> float:
    """The papers' SEE, metres: mean over the edge pixels of the smallest error within a pixel's shift of the truth.

    Args:
        mask: where the metric is evaluated; any positive truth may match, inside the mask or not.
        edges: (H, W) bool, `disparity_edges` of the truth.
        exact: 0 instead of NaN without edge pixels, as in the authors' code, whose means it lowers.
    """
    errors = _soft_errors(pred, truth, truth > 0, mask & edges)
    return 0.0 if exact and not errors.size else mean(errors)


def edge_map_metrics(
    pred_edges: BoolMap, true_edges: BoolMap, mask: BoolMap, *, exact: bool = False
) -> dict[str, float]:
    """How well two edge maps agree, say `edges.canny_edges` of two depth maps.

    accuracy       px, mean distance of predicted edges to the nearest true one, of those closer than EDGE_LIMIT;
                   EDGE_LIMIT if there is none
    completeness   px, mean distance of true edges to the nearest predicted one, each at most EDGE_LIMIT
    precision, recall, f1, hamming (share of differing pixels), agreement (1 - hamming): of the edges
                   thickened by 2 px to each side, so that a shift of a pixel or two costs little

    Edges outside the mask do not count, but may be the nearest. NaN where the mask holds no true edge.

    Args:
        pred_edges, true_edges: (H, W) bool.
        exact: completeness as in the authors' code, where distances have no limit but the mean is EDGE_LIMIT if no
            predicted edge is accurate.

    Raises:
        MissingExtraError: scipy, which comes with scikit-image, is not installed.
    """
    to_truth, to_pred = distance_to(true_edges), distance_to(pred_edges)
    accurate = to_truth[pred_edges & mask & (to_truth < EDGE_LIMIT)]
    missed = to_pred[true_edges & mask]
    if not exact:
        missed = np.minimum(missed, EDGE_LIMIT)
    elif not accurate.size:
        missed = np.full_like(missed, EDGE_LIMIT)
    measurable = bool(missed.size)
    return {
        "accuracy": (mean(accurate) if accurate.size else EDGE_LIMIT) if measurable else float("nan"),
        "completeness": mean(missed),
        **_overlap(
            edge_band(pred_edges, EDGE_MATCH)[mask], edge_band(true_edges, EDGE_MATCH)[mask], measurable
        ),
    }


def _soft_errors(
    pred: FloatMap, truth: FloatMap, known: BoolMap, chosen: BoolMap
) -> npt.NDArray[np.floating[Any]]:
    """Per chosen pixel: the smallest |pred - truth| over the known truth within a pixel along each axis."""
    ys, xs = np.nonzero(chosen)
    padded = np.pad(np.where(known, truth, np.inf), 1, constant_values=np.inf)
    error = np.full(ys.shape, np.inf)
    for dy, dx in np.ndindex(3, 3):
        error = np.minimum(error, np.abs(pred[ys, xs] - padded[ys + dy, xs + dx]))
    return error


def _overlap(pred: BoolMap, truth: BoolMap, measurable: bool) -> dict[str, float]:
    """Scores of a binary classification; without anything to find only the share of errors exists."""
    both = int((pred & truth).sum())
    differing = mean(pred != truth)
    scores = {
        "precision": both / max(int(pred.sum()), 1),
        "recall": both / max(int(truth.sum()), 1),
        "f1": 2 * both / max(int(pred.sum()) + int(truth.sum()), 1),
    }
    if not measurable:
        scores = dict.fromkeys(scores, float("nan"))
    return {**scores, "hamming": differing, "agreement": 1 - differing}
