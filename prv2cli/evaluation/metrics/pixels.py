"""How good a depth map is, as numbers: everywhere, as the depth papers define it.

    abs_rel  sq_rel  rmse  rmse_log  log10  silog  delta     one figure each
    paper_metrics                                            the table of PatchFusion and PatchRefiner
    consistency_error                                        where tiles meet

Figures of depth edges are in edge_errors.py and boundary_f1.py.

Unless said otherwise a function takes `pred` and `truth`, (H, W) floats in metres, and `mask`, (H, W) bool: True
where the truth was measured. Pixels outside the mask never count. Results are plain fractions (0.1 is 10 %); NaN
means "nothing to measure here", and belongs in no mean. Higher is better for `delta`, the two F1, and precision,
recall and agreement of edge maps; lower for the others.

Published figures come from truth within a range of depths and often a crop (`evaluated_pixels`) and a
prediction clipped to that range (`clip_depth`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prv2cli.choices import Crop
from prv2cli.evaluation.metrics.edges import TINY, BoolMap, FloatMap, log_ratio

_CROPS = {  # top, bottom, left, right as shares of the image
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen-kitti": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
_EIGEN_NYU = (480, 640), (slice(45, 471), slice(41, 601))  # the size it is made for, and rows and columns


def abs_rel(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Mean of |pred - truth| / truth."""
    return mean(np.abs(pred[mask] - truth[mask]) / truth[mask])


def sq_rel(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Mean of (pred - truth)^2 / truth, metres."""
    return mean((pred[mask] - truth[mask]) ** 2 / truth[mask])


def rmse(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Root of the mean squared error, metres."""
    return float(np.sqrt(mean((pred[mask] - truth[mask]) ** 2)))


def rmse_log(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Root of the mean squared difference of natural logarithms."""
    return float(np.sqrt(mean(log_ratio(truth[mask], pred[mask]) ** 2)))


def log10(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Mean difference of decimal logarithms."""
    return mean(np.abs(log_ratio(truth[mask], pred[mask]))) / float(np.log(10))


def silog(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> float:
    """Standard deviation of log pred - log truth: blind to the overall scale. Papers print it times 100."""
    error = np.log(np.maximum(pred[mask], TINY)) - np.log(truth[mask])
    return float(error.std()) if error.size else float("nan")


def delta(pred: FloatMap, truth: FloatMap, mask: BoolMap, power: int = 1) -> float:
    """Share of pixels where the larger depth is less than 1.25^power times the smaller."""
    p, t = np.maximum(pred[mask], TINY), truth[mask]
    return mean(np.maximum(p / t, t / p) < 1.25**power)


def paper_metrics(pred: FloatMap, truth: FloatMap, mask: BoolMap) -> dict[str, float]:
    """The columns of the papers' tables (docs/method.md 4), in their order; silog times 100."""
    return {
        **{f"delta{n}": delta(pred, truth, mask, power=n) for n in (1, 2, 3)},
        "abs_rel": abs_rel(pred, truth, mask),
        "sq_rel": sq_rel(pred, truth, mask),
        "rmse": rmse(pred, truth, mask),
        "rmse_log": rmse_log(pred, truth, mask),
        "silog": 100 * silog(pred, truth, mask),
        "log10": log10(pred, truth, mask),
    }


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


def consistency_error(tiles: npt.NDArray[np.floating[Any]], overlap: tuple[int, int]) -> float:
    """Tile consistency error (PatchFusion), metres: mean |difference| of neighbouring tiles where they overlap.

    Args:
        tiles: (rows, columns, h, w) metres, a regular grid of predictions, not blended; NaN: not compared.
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
    differences = np.concatenate([vertical.ravel(), horizontal.ravel()])
    return mean(differences[~np.isnan(differences)])


def mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


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
