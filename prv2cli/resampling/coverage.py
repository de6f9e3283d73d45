"""Area averages with pixels that are covered in part, as OpenCV's INTER_AREA has them. numpy only."""

from __future__ import annotations

import numpy as np

from prv2cli.files.disk_array import DiskArray


def average_area(image: np.ndarray | DiskArray, size: tuple[int, int]) -> np.ndarray:
    """Each pixel of the result is the mean of what it covers, a pixel on its border by the part that is covered.

    Args:
        image: (H, W, C) of any number type.
        size: height and width of the result, neither larger than the image's.

    Returns:
        (*size, C) float32 in the image's units. The image is read a few rows at a time.
    """
    across = np.empty((size[0], image.shape[1], image.shape[2]), np.float32)
    for y, (start, weights) in enumerate(_covered(image.shape[0], size[0])):
        rows = np.asarray(image[start : start + len(weights)], np.float32)
        across[y] = np.tensordot(weights, rows, axes=1)
    result = np.empty((*size, image.shape[2]), np.float32)
    for x, (start, weights) in enumerate(_covered(image.shape[1], size[1])):
        result[:, x] = np.tensordot(across[:, start : start + len(weights)], weights, axes=(1, 0))
    return result


def _covered(source: int, target: int) -> list[tuple[int, np.ndarray]]:
    """For each pixel of the result: the first pixel under it, and the shares of that and the next ones."""
    scale = source / target
    found = []
    for i in range(target):
        low, high = i * scale, (i + 1) * scale
        start, stop = int(low), min(source, max(int(low) + 1, int(np.ceil(high - 1e-9))))
        edges = np.arange(start, stop + 1).clip(low, high)
        weights = np.diff(edges)
        found.append((start, (weights / weights.sum()).astype(np.float32)))
    return found
