"""Where the depth edges of a map are, by comparing neighbours or as the papers find them (Canny), and how far away.

depth_edges  disparity_edges  edge_band     by neighbours
canny_edges  distance_to                    need scikit-image, imported when called
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prv2cli.extras import import_distances, import_edge_detector

FloatMap = npt.NDArray[np.floating[Any]]  # (H, W)
BoolMap = npt.NDArray[np.bool_]  # (H, W)

EDGE_JUMP = 0.03  # neighbouring depths whose ratio exceeds 1.03 form a depth edge
EDGE_RADIUS = 4  # px: "near an edge"
TINY = 1e-6  # metres: keeps ratios of depths finite


def depth_edges(truth: FloatMap, mask: BoolMap, jump: float = EDGE_JUMP) -> BoolMap:
    """Pixels on either side of a depth edge: measured 4-neighbours whose ratio of depths exceeds 1 + jump."""
    edges = np.zeros(truth.shape, dtype=bool)
    for a, b in neighbours(truth, mask):
        steep = np.abs(log_ratio(truth[a], truth[b])) > np.log1p(jump)
        steep &= mask[a] & mask[b]
        edges[a] |= steep
        edges[b] |= steep
    return edges


def disparity_edges(disparity: FloatMap) -> BoolMap:
    """Pixels of which a 4-neighbour differs by more than 1 px of disparity (PatchFusion's edges)."""
    edges = np.zeros(disparity.shape, dtype=bool)
    for a, b in neighbours(disparity, np.ones(disparity.shape, dtype=bool)):
        steep = np.abs(disparity[b] - disparity[a]) > 1
        edges[a] |= steep
        edges[b] |= steep
    return edges


def edge_band(edges: BoolMap, radius: int = EDGE_RADIUS) -> BoolMap:
    """Pixels whose (2 radius + 1)^2 neighbourhood holds an edge pixel."""
    return window_max(edges, radius)


def canny_edges(depth: FloatMap) -> BoolMap:
    """Canny edges of a depth map, thresholds 0.1 and 0.2, as the authors mark boundaries.

    The detector sees the natural logarithm, which makes the thresholds ratios of depths.

    Args:
        depth: (H, W) metres; a logarithm of 0 where it is not positive.

    Returns:
        (H, W) bool.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    feature = import_edge_detector()
    metres = np.asarray(depth, np.float32)
    seen = np.zeros_like(metres)
    np.log(metres, out=seen, where=metres > 0)
    edges: BoolMap = feature.canny(seen, sigma=1.0)
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


def neighbours(truth: FloatMap, mask: BoolMap) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Two index pairs, (left, right) and (upper, lower): map[a], map[b] are all pairs of 4-neighbours."""
    if truth.shape != mask.shape or truth.ndim != 2:
        raise ValueError(f"expected two maps (H, W) of one size, got {truth.shape} and {mask.shape}")
    everything, first, second = slice(None), slice(None, -1), slice(1, None)
    return [((everything, first), (everything, second)), ((first, everything), (second, everything))]


def log_ratio(a: FloatMap, b: FloatMap) -> FloatMap:
    """log(b / a); depths that are not positive count as tiny, so that holes raise no warnings."""
    log_a, log_b = (np.log(np.maximum(depth, TINY, dtype=np.float64)) for depth in (a, b))
    return np.asarray(log_b - log_a)


def window_max(values: npt.NDArray[Any], radius: int) -> npt.NDArray[Any]:
    """Largest value of each (2 radius + 1)^2 window, cut at the border; on a mask: dilation."""
    for axis in (0, 1):
        source = np.moveaxis(values, axis, 0)
        largest = source.copy()
        for shift in range(1, min(radius, len(source) - 1) + 1):
            np.maximum(largest[shift:], source[:-shift], out=largest[shift:])
            np.maximum(largest[:-shift], source[shift:], out=largest[:-shift])
        values = np.moveaxis(largest, 0, axis)
    return values
