"""Bring a prediction to the truth's scale before it is measured, for networks that know depth only up to that.

    scale         one factor: the ratio of the medians (Zhou et al., CVPR 2017)
    scale-shift   a factor and an offset by least squares (Ranftl et al., TPAMI 2022)

Both in depth, or in disparity (1 / depth), where affine-invariant networks predict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from prv2cli.choices import Align, AlignSpace
from prv2cli.errors import InputError

FloatMap = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Aligned:
    """values: (H, W) float32 metres, NaN where the prediction has none. aligned = scale * prediction + shift.

    space, max_depth: as of `align`.
    """

    values: npt.NDArray[np.float32]
    scale: float = 1.0
    shift: float = 0.0
    space: AlignSpace = "depth"
    max_depth: float = np.inf

    def apply(self, pred: FloatMap) -> npt.NDArray[np.float32]:
        """Another map in the unit of the prediction, brought to metres by the same fit; NaN stays NaN."""
        if (self.scale, self.shift) == (1.0, 0.0):
            return pred.astype(np.float32)
        fitted = self.scale * _in_space(pred.astype(np.float64), self.space) + self.shift
        if self.space == "disparity":
            fitted = 1 / np.maximum(fitted, 1 / self.max_depth)
        return fitted.astype(np.float32)


def align(
    pred: FloatMap,
    truth: FloatMap,
    mask: npt.NDArray[np.bool_],
    how: Align,
    space: AlignSpace = "depth",
    max_depth: float = np.inf,
) -> Aligned:
    """`pred` on the scale of `truth`.

    Args:
        pred: (H, W), what is not finite and above 0 is no depth.
        truth: (H, W) metres. mask: (H, W), the pixels to fit on.
        max_depth: metres, of what lies at or behind infinity after the alignment in disparity.

    Raises:
        InputError: too little in common to fit on.
    """
    usable = np.isfinite(pred) & (pred > 0)
    values = np.where(usable, pred, np.nan)
    if how == "none":
        return Aligned(values.astype(np.float32))
    chosen = usable & mask
    p, t = (_in_space(depth[chosen].astype(np.float64), space) for depth in (pred, truth))
    scale, shift = _median_ratio(p, t) if how == "scale" else _least_squares(p, t)
    fit = Aligned(values.astype(np.float32), scale, shift, space, max_depth)
    return replace(fit, values=fit.apply(values))


def _in_space(depth: FloatMap, space: AlignSpace) -> FloatMap:
    return depth if space == "depth" else 1 / depth


def _median_ratio(p: FloatMap, t: FloatMap) -> tuple[float, float]:
    if not p.size:
        raise InputError("the prediction has no depth where the truth is measured: nothing to align on")
    return float(np.median(t) / np.median(p)), 0.0


def _least_squares(p: FloatMap, t: FloatMap) -> tuple[float, float]:
    """scale, shift of the smallest sum of (scale * p + shift - t)^2."""
    spread = float(((p - p.mean()) ** 2).sum()) if p.size else 0.0
    if spread <= 1e-12 * float((p**2).sum()):
        raise InputError(
            "the prediction is flat or empty where the truth is measured: no scale and shift to find"
        )
    scale = float(((p - p.mean()) * (t - t.mean())).sum()) / spread
    return scale, float(t.mean() - scale * p.mean())
