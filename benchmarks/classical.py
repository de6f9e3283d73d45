"""The classical competitors of a depth refiner: guided filter, joint bilateral filter and up-sampling.

`settings(factor)` lists every one with its grid; each entry is called with (rgb, coarse, bilinear):
rgb (H, W, 3) float32 in [0, 1], coarse (h, w) and bilinear (H, W) float32 depth. All filter log-depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product

import cv2
import numpy as np

Filter = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Tap = tuple[np.ndarray, np.ndarray, list[np.ndarray]]  # spatial weight, values, guide planes; all of a band

SPATIAL = (0.5, 1.0, 2.0, 4.0)  # low-res pixels: radius of the guided filter, sigma of the bilateral ones
EPSILONS = (1e-5, 1e-4, 1e-3, 1e-2)
RANGES = (0.02, 0.03, 0.05, 0.07, 0.1)  # sigma of the colour distance, RGB in [0, 1]
BAND = 48  # rows: what a bilateral filter works on at a time stays in the processor's cache


def settings(factor: int) -> Iterator[tuple[str, str, Filter]]:
    """(family, setting, filter) for a coarse map `factor` times smaller than the photograph."""
    for size, eps in product(SPATIAL, EPSILONS):
        radius = max(1, round(size * factor))
        for guide, kernel in (("grey", _guided_grey), ("colour", _guided_colour)):
            label = f"{guide}, radius {radius}, eps {eps:g}"
            yield "guided filter", label, partial(_guided, kernel, radius, eps)
    for size, spread in product(SPATIAL, RANGES):
        label = f"sigma {size:g} low-res px, colour {spread:g}"
        yield "joint bilateral filter", label, partial(_bilateral, size * factor, spread)
        yield "joint bilateral up-sampling", label, partial(_upsample, size, spread)


def _guided(
    kernel: Callable, radius: int, eps: float, rgb: np.ndarray, coarse: np.ndarray, bilinear: np.ndarray
) -> np.ndarray:
    return np.exp(kernel(rgb, np.log(bilinear), radius, eps))


def _guided_grey(rgb: np.ndarray, source: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """He, Sun, Tang, ECCV 2010: in every box the result is a line in the guide."""
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    mean = partial(_box_mean, radius=radius)
    mean_guide, mean_source = mean(guide), mean(source)
    slope = (mean(guide * source) - mean_guide * mean_source) / (mean(guide * guide) - mean_guide**2 + eps)
    offset = mean_source - slope * mean_guide
    return mean(slope) * guide + mean(offset)


def _guided_colour(rgb: np.ndarray, source: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """The same with a plane in R, G, B: a 3 x 3 system in every box."""
    mean = partial(_box_mean, radius=radius)
    mean_rgb, mean_source = mean(rgb), mean(source)
    outer = mean(_outer(rgb).reshape(*source.shape, 9)).reshape(*source.shape, 3, 3)
    covariance = outer - _outer(mean_rgb) + eps * np.eye(3)
    cross = mean(rgb * source[..., None]) - mean_rgb * mean_source[..., None]
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0]
    offset = mean_source - (slope * mean_rgb).sum(-1)
    return (mean(slope) * rgb).sum(-1) + mean(offset)


def _outer(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., :, None] * rgb[..., None, :]


def _box_mean(image: np.ndarray, radius: int) -> np.ndarray:
    """Mean over (2 radius + 1)^2, mirrored at the border, in double precision."""
    return cv2.boxFilter(image, cv2.CV_64F, (2 * radius + 1, 2 * radius + 1))


def _bilateral(
    sigma: float, spread: float, rgb: np.ndarray, coarse: np.ndarray, bilinear: np.ndarray
) -> np.ndarray:
    """Joint bilateral filter of the bilinear map; sigma in px, a tap every sigma / 4 out to 2 sigma."""
    step = max(1, round(sigma / 4))
    reach = round(2 * sigma / step) * step
    width = bilinear.shape[1]
    border = (reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
    values = cv2.copyMakeBorder(np.log(bilinear), *border)
    guide = _planes(cv2.copyMakeBorder(rgb, *border))

    def taps(rows: np.ndarray) -> Iterator[Tap]:
        for dy, dx in product(range(-reach, reach + 1, step), repeat=2):
            top = reach + rows[0] + dy
            window = np.s_[top : top + len(rows), reach + dx : reach + dx + width]
            spatial = np.exp(-(dy**2 + dx**2) / (2 * sigma**2))
            yield np.asarray(spatial, np.float32), values[window], [plane[window] for plane in guide]

    return _weighted_mean(rgb, spread, taps)


def _upsample(
    sigma: float, spread: float, rgb: np.ndarray, coarse: np.ndarray, bilinear: np.ndarray
) -> np.ndarray:
    """Joint bilateral up-sampling (Kopf et al., SIGGRAPH 2007); sigma in low-res px, out to 2.5 sigma."""
    reach = int(np.ceil(2.5 * sigma))
    values = np.log(coarse)
    guide = _planes(cv2.resize(rgb, coarse.shape[::-1], interpolation=cv2.INTER_AREA))
    down, across = (_positions(n, m) for n, m in zip(bilinear.shape, coarse.shape, strict=True))

    def taps(rows: np.ndarray) -> Iterator[Tap]:
        for dy, dx in product(range(1 - reach, reach + 1), repeat=2):
            y, x = np.floor(down[rows]).astype(int) + dy, np.floor(across).astype(int) + dx
            distance = ((y - down[rows]) ** 2)[:, None] + (x - across) ** 2
            spatial = np.exp(distance.astype(np.float32) * np.float32(-0.5 / sigma**2))
            yield spatial, _gather(values, y, x), [_gather(plane, y, x) for plane in guide]

    return _weighted_mean(rgb, spread, taps)


def _weighted_mean(rgb: np.ndarray, spread: float, taps: Callable[[np.ndarray], Iterable[Tap]]) -> np.ndarray:
    """exp of the mean of all taps' values, weighted by nearness and closeness of colour; by bands of rows."""
    bands = []
    for rows in np.array_split(np.arange(len(rgb)), max(1, len(rgb) // BAND)):
        centre = _planes(rgb[rows])
        total, weights = np.zeros_like(centre[0]), np.zeros_like(centre[0])
        for spatial, values, guide in taps(rows):
            weight = spatial * _closeness(centre, guide, spread)
            weights += weight
            weight *= values
            total += weight
        bands.append(np.exp(total / weights))
    return np.concatenate(bands)


def _closeness(a: list[np.ndarray], b: list[np.ndarray], spread: float) -> np.ndarray:
    """Gaussian of the colour distance; never zero, so that a pixel unlike all others keeps a spatial mean."""
    squared = np.zeros_like(a[0])
    for x, y in zip(a, b, strict=True):
        squared += np.square(x - y)
    squared *= np.float32(-0.5 / spread**2)
    return np.exp(squared, out=squared) + np.float32(1e-12)


def _planes(rgb: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(rgb[..., channel]) for channel in range(3)]


def _positions(size: int, low_size: int) -> np.ndarray:
    """Where full-size pixel centres lie among low-res pixel centres."""
    return (np.arange(size) + 0.5) * low_size / size - 0.5


def _gather(plane: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """plane at every (y, x) of two ascending index lists, the border repeated."""
    y, x = y.clip(0, plane.shape[0] - 1), x.clip(0, plane.shape[1] - 1)
    return plane[y[0] : y[-1] + 1][:, x][y - y[0]]
