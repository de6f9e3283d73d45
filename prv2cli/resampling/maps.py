"""Maps of numbers (depth, errors) at another size. numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`values` at `size` (rows, columns): each pixel takes the one that its centre falls into."""
    rows, columns = (nearest_places(new, old) for new, old in zip(size, values.shape[:2], strict=True))
    return values[rows[:, None], columns[None, :]]


def nearest_places(new: int, old: int) -> np.ndarray:
    """(new,): which of `old` pixels in a row the centre of each of `new` ones falls into."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def bilinear(values: np.ndarray, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """`values` (H, W) at `size`: bilinear, half-pixel centres, borders repeated. A NaN spreads to what it touches.

    Of that size already they are given back themselves, as float32.
    """
    result = np.asarray(values, np.float32)
    for axis, new in enumerate(size):
        old = result.shape[axis]
        if new == old:
            continue
        place = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
        low = np.minimum(place.astype(np.intp), max(old - 2, 0))
        weight = (place - low).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        first, second = result.take(low, axis), result.take(np.minimum(low + 1, old - 1), axis)
        # Where a weight is 0 its pixel is not touched, so that its NaN does not spread.
        result = np.where(
            weight == 0, first, np.where(weight == 1, second, first + (second - first) * weight)
        )
    return result


def rows_of(values: np.ndarray, height: int, part: slice) -> np.ndarray:
    """The rows `part` of (h, W), enlarged bilinearly to `height` rows."""
    count = len(values)
    place = ((np.arange(height, dtype=np.float32)[part] + 0.5) * (count / height) - 0.5).clip(0, count - 1)
    below = place.astype(np.int64)
    share = (place - below).astype(np.float32)[:, None]
    return values[below] * (1 - share) + values[np.minimum(below + 1, count - 1)] * share
