"""Resampling of photographs as OpenCV does it, without OpenCV. No model, no files."""

from __future__ import annotations

import numpy as np

_SHARPNESS = -0.75  # Keys' parameter a; OpenCV and torch have this value, Pillow has -0.5


def resize_cubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic resize as OpenCV's INTER_CUBIC: half-pixel centres, borders repeated, never antialiased.

    Args:
        image: (H, W, C) of any number type.
        size: height and width of the result.

    Returns:
        (*size, C) float64 in the image's units; it overshoots at edges. Only the rows that are read are converted
        to float64, four at most for each row of the result, so the photograph may be large.
    """
    rows, row_weights = _taps(image.shape[0], size[0])
    columns, column_weights = _taps(image.shape[1], size[1])
    across = np.zeros((size[0], *image.shape[1:]))
    for row, weight in zip(rows, row_weights, strict=True):
        across += weight[:, None, None] * image[row]
    result = np.zeros((*size, *image.shape[2:]))
    for column, weight in zip(columns, column_weights, strict=True):
        result += weight[:, None] * across[:, column]
    return result


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """(4, target) positions that are read for each pixel of the result, and their weights."""
    # OpenCV holds the centre in float32; in float64 the result would differ by 2e-5 of its range.
    centre = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    offsets = np.arange(-1, 3)[:, None]
    positions = np.floor(centre).astype(np.int64) + offsets
    return positions.clip(0, source - 1), _kernel(np.abs(positions - centre))


def _kernel(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel (IEEE TASSP 29(6), 1981) at distances 0..2."""
    a = _SHARPNESS
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
