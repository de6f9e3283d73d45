"""How far the predictions of one pixel lie apart, and the confidence that is told from it. numpy only.

tiles that overlap, and their mirrored passes ─ Disagreement ─ half the range ─┐
                              how much the coarse map was changed ─────────────┴─ to_confidence ─ 0..1
"""

from __future__ import annotations

import numpy as np

HALF_CONFIDENT = 0.01  # the relative disagreement at which the confidence is one half
FORMULA = (
    "confidence = 1 / (1 + 100 d), d = half the range of the natural logarithms of the depths that were predicted for "
    "a pixel, and 0.3 of the mean change of the coarse map's logarithms in 9 x 9 pixels: 1 = all agree and nothing was "
    "changed, 0.5 = they are 1 % away from their middle; not known where there was one prediction only"
)
AFFINE_FORMULA = (
    "confidence = 1 / (1 + 100 d), d = 0.4 times the sum of half the range of the values that were predicted for a "
    "pixel and 0.3 of the mean change of the coarse map in 9 x 9 pixels, over that map's spread: 1.5 times the mean "
    "distance of its values from their median, or a tenth of their range where that is more; 1 = all agree and nothing "
    "was changed, 0.5 = they are 2.5 % of that spread away from their middle; not known where there was one prediction "
    "only"
)
METRE_FORMULA = (
    "confidence = 1 / (1 + 100 d), d = half the range of the depths, over the depth, that were predicted for a pixel: "
    "1 = all agree, 0.5 = they are 1 % away from their middle; not known where there was one prediction only"
)


class Disagreement:
    """The smallest and the largest of all predictions of each pixel, for some rows of an image.

    The order of the predictions does not matter, and equal ones disagree by exactly 0. Those with weight zero,
    beside the border of a tile, do not count.
    """

    def __init__(self, rows: int, width: int) -> None:
        self._low = np.full((rows, width), np.nan, np.float32)  # NaN: no prediction yet
        self._high = np.full((rows, width), np.nan, np.float32)  # NaN: no second one yet

    def add(self, window: tuple[slice, slice], values: np.ndarray, weight: np.ndarray) -> None:
        """One prediction of every pixel of a window: (h, w) values and blend weights."""
        low, high = self._low[window], self._high[window]
        counted = np.where(weight > 0, values, np.float32(np.nan))
        # Of a number and NaN, fmax takes the number and maximum the NaN: the first prediction leaves `high` NaN.
        np.fmax(high, np.maximum(low, counted), out=high)
        np.fmin(low, counted, out=low)

    def extend(self, rows: int) -> None:
        """Rows more at the bottom."""
        more = np.full((rows, self._low.shape[1]), np.nan, np.float32)
        self._low, self._high = np.concatenate([self._low, more]), np.concatenate([self._high, more])

    def take(self, rows: int) -> np.ndarray:
        """Hand over the topmost rows: (rows, W) half the range, NaN where there were not two predictions."""
        low, high = self._low[:rows], self._high[:rows]
        if rows < len(self._low):
            self._low, self._high = self._low[rows:].copy(), self._high[rows:].copy()
        else:
            self._low = self._high = np.zeros((0, low.shape[1]), np.float32)
        high -= low
        high /= 2
        return high


def to_confidence(deviation: np.ndarray) -> np.ndarray:
    """Relative disagreement >= 0 -> confidence in (0, 1], in place; NaN stays NaN. FORMULA in numbers."""
    deviation /= np.float32(HALF_CONFIDENT)
    deviation += 1
    return np.reciprocal(deviation, out=deviation)
