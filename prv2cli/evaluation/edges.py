"""Depth edges as the papers find them (Canny), and distances to them. Needs scikit-image, imported when called.

`prv2cli.evaluation.metrics.depth_edges` and `disparity_edges` need nothing: they compare neighbours.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prv2cli.extras import import_distances, import_edge_detector

Space = Literal["log", "log1.5", "inverse"]


def canny_edges(
    depth: npt.NDArray[np.floating[Any]], space: Space = "log", sigma: float = 1.0
) -> npt.NDArray[np.bool_]:
    """Canny edges of a depth map, thresholds 0.1 and 0.2, as the authors mark boundaries.

    Args:
        depth: (H, W) metres; what is not positive counts as 0 in the space chosen.
        space: what the detector sees. "log": the natural logarithm, which makes the thresholds ratios of depths;
            "log1.5": the logarithm to base 1.5, so 2.5 times as sensitive; "inverse": 1 / depth over 0..1.
        sigma: px, of the Gaussian before it.

    Returns:
        (H, W) bool.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    feature = import_edge_detector()
    edges: npt.NDArray[np.bool_] = feature.canny(_seen(np.asarray(depth, np.float32), space), sigma=sigma)
    return edges


def distance_to(edges: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(H, W) px from each pixel to the nearest edge pixel; infinite where there is none.

    Raises:
        MissingExtraError: scipy, which comes with scikit-image, is not installed.
    """
    if not edges.any():
        return np.full(edges.shape, np.inf)
    distance: npt.NDArray[np.float64] = import_distances().distance_transform_edt(~edges)
    return distance


def _seen(depth: npt.NDArray[np.float32], space: Space) -> npt.NDArray[np.float32]:
    known = depth > 0
    seen = np.zeros_like(depth)
    if space == "inverse":
        np.divide(1, depth, out=seen, where=known)
        seen -= seen.min()
        return seen / max(seen.max(), np.finfo(np.float32).tiny)
    np.log(depth, out=seen, where=known)
    return seen / np.log(np.float32(1.5)) if space == "log1.5" else seen
