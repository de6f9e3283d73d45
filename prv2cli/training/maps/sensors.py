"""Depth maps as sensors and stereo matchers give them: from a true depth map, and at its size.

time_of_flight   few pixels, mixed depths at edges, light from several paths, noise that grows with depth
lidar            very few points, joined by nearest values: staircases
structured       shadows beside near things, filled; ragged edges; steps of disparity; noise with the square of depth
stereo           near things too fat, then smoothed
noisy_disparity  few pixels of 8-bit disparity with Gaussian noise, as noisy up-sampling is measured in the literature
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prv2cli.extras import import_opencv

Rng = np.random.Generator
_LIMITS = (1e-3, 1e4)  # metres


class Sensed(NamedTuple):
    """depth: (H, W) float32 metres; unit: pixels of it that the sensor sees as one. disparity: it measures that."""

    depth: np.ndarray
    unit: float
    disparity: bool = False


def sense(depth: np.ndarray, rng: Rng) -> Sensed:
    """(H, W) true metres -> what one of the sensors says of it."""
    kind = _SENSORS[int(rng.choice(len(_SENSORS), p=_SHARES))]
    sensed = kind(depth, rng)
    return sensed._replace(depth=np.clip(sensed.depth, *_LIMITS).astype(np.float32))


def time_of_flight(depth: np.ndarray, rng: Rng) -> Sensed:
    cv2, factor = import_opencv(), _log_uniform(rng, 1.5, 8)
    low = cv2.GaussianBlur(_reduced(depth, factor), (0, 0), float(rng.uniform(0.3, 1.3)))
    if rng.random() < 0.5:  # light that came round a corner: what is near others seems farther
        around = cv2.GaussianBlur(low, (0, 0), float(rng.uniform(3, 8)))
        low = low + float(rng.uniform(0, 0.3)) * np.clip(around - low, 0, 0.1 * low)
    grain = _grain(low.shape, rng) * _log_uniform(rng, 0.001, 0.01)
    return Sensed(_enlarged(low * (1 + grain), depth.shape, rng), factor)


def lidar(depth: np.ndarray, rng: Rng) -> Sensed:
    cv2, factor = import_opencv(), _log_uniform(rng, 3, 9)
    low = _sampled(depth, factor)
    points = _sampled(low, _log_uniform(rng, 1.2, 2.5))
    low = cv2.resize(points, low.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    if rng.random() < 0.7:
        low = cv2.medianBlur(low, 3)
    low = low * (1 + _grain(low.shape, rng) * _log_uniform(rng, 0.0005, 0.005))
    return Sensed(_enlarged(low, depth.shape, rng), factor)


def structured(depth: np.ndarray, rng: Rng) -> Sensed:
    cv2, factor = import_opencv(), _log_uniform(rng, 1, 3)
    low = _ragged(_sampled(depth, factor), rng)
    inverse = 1 / low
    reach = _log_uniform(rng, 3, 15) / max(1e-9, float(inverse.max()))  # pixels of shadow a unit of disparity
    inverse = _shadowed(inverse, reach, rng)
    steps = _log_uniform(rng, 60, 600) / float(inverse.max())
    inverse = np.maximum(np.round(inverse * steps + rng.normal(0, 0.3, inverse.shape)), 1) / steps
    low = (1 / inverse).astype(np.float32)
    if rng.random() < 0.7:
        low = cv2.medianBlur(low, 3)
    return Sensed(_enlarged(low, depth.shape, rng), factor)


def stereo(depth: np.ndarray, rng: Rng) -> Sensed:
    cv2, factor = import_opencv(), _log_uniform(rng, 1, 4)
    inverse = 1 / _sampled(depth, factor)
    side = int(rng.integers(1, 4)) * 2 + 1
    inverse = cv2.dilate(inverse, np.ones((int(rng.integers(1, side + 1)), side), np.uint8))
    inverse = cv2.medianBlur(inverse, int(rng.choice((3, 5))))
    if rng.random() < 0.5:
        inverse = cv2.GaussianBlur(inverse, (0, 0), float(rng.uniform(0.4, 1.5)))
    noise = _grain(inverse.shape, rng) * float(inverse.std()) * _log_uniform(rng, 0.005, 0.05)
    inverse = np.maximum(inverse + noise, 0.3 * float(inverse.min()))
    return Sensed(1 / np.maximum(_enlarged(inverse, depth.shape, rng), 1e-6), factor, disparity=True)


def noisy_disparity(depth: np.ndarray, rng: Rng) -> Sensed:
    factor = float(rng.choice((1, 2, 4, 8, 16), p=(0.05, 0.2, 0.25, 0.25, 0.25)))
    inverse = 1 / depth
    low = _sampled(inverse, factor) if rng.random() < 0.5 else _reduced(inverse, factor)
    # 8-bit levels: the nearest surface lies anywhere from 60 to 250; what is farther has more noise.
    level = float(rng.uniform(60, 250)) / float(np.percentile(low, 99))
    grey = low * level
    grey = grey + _grain(grey.shape, rng) * (_log_uniform(rng, 20, 400) / np.maximum(grey, 50))
    return Sensed(level / np.maximum(_enlarged(grey, depth.shape, rng), 1), factor, disparity=True)


_SENSORS: tuple[Callable[[np.ndarray, Rng], Sensed], ...] = (
    time_of_flight,
    lidar,
    structured,
    stereo,
    noisy_disparity,
)
_SHARES = (0.2, 0.13, 0.17, 0.17, 0.33)


# --- what they share --------------------------------------------------------------------------------------


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _size(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    return max(6, round(shape[1] / factor)), max(6, round(shape[0] / factor))


def _reduced(depth: np.ndarray, factor: float) -> np.ndarray:
    cv2 = import_opencv()
    return cv2.resize(depth, _size(depth.shape, factor), interpolation=cv2.INTER_AREA)


def _sampled(depth: np.ndarray, factor: float) -> np.ndarray:
    """One value for each pixel of the sensor, not a mean."""
    cv2 = import_opencv()
    return cv2.resize(depth, _size(depth.shape, factor), interpolation=cv2.INTER_NEAREST_EXACT)


def _enlarged(low: np.ndarray, shape: tuple[int, ...], rng: Rng) -> np.ndarray:
    """To the size of the photograph: mostly bilinear, as the program does it; others store it enlarged."""
    cv2, size = import_opencv(), shape[::-1]
    draw = rng.random()
    mode = cv2.INTER_LINEAR if draw < 0.7 else cv2.INTER_CUBIC if draw < 0.8 else cv2.INTER_NEAREST_EXACT
    return cv2.resize(np.ascontiguousarray(low, np.float32), size, interpolation=mode)


def _grain(shape: tuple[int, ...], rng: Rng) -> np.ndarray:
    """Gaussian noise of unit variance; now and then of grains larger than a pixel."""
    cv2 = import_opencv()
    noise = rng.standard_normal(shape, dtype=np.float32)
    if rng.random() < 0.3:
        noise = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.5, 1.2)))
        noise = noise / max(1e-6, float(noise.std()))
    return noise


def _ragged(depth: np.ndarray, rng: Rng) -> np.ndarray:
    """Every pixel is taken from one nearby: edges lose their line."""
    rows, columns = depth.shape
    reach = float(rng.uniform(0.3, 1.2))
    y, x = np.mgrid[:rows, :columns]
    y = y + np.round(rng.normal(0, reach, depth.shape)).astype(np.int64)
    x = x + np.round(rng.normal(0, reach, depth.shape)).astype(np.int64)
    return depth[y.clip(0, rows - 1), x.clip(0, columns - 1)]


def _shadowed(inverse: np.ndarray, reach: float, rng: Rng) -> np.ndarray:
    """The pixels that a projector beside the camera does not reach, filled from both sides.

    A pixel whose ray meets something nearer on the way to the projector: there is a nearer one k pixels along with more
    than k pixels of disparity between the two.
    """
    hidden = np.zeros(inverse.shape, bool)
    step = 1 if rng.random() < 0.5 else -1
    for k in range(1, 13):
        hidden |= (np.roll(inverse, step * k, axis=1) - inverse) * reach > k
    if hidden.all():
        return inverse
    cv2 = import_opencv()
    level, known = np.where(hidden, 0, inverse).astype(np.float32), (~hidden).astype(np.float32)
    filled = cv2.blur(level, (9, 9)) / np.maximum(cv2.blur(known, (9, 9)), 1e-6)
    return np.where(hidden, np.where(cv2.blur(known, (9, 9)) > 0, filled, inverse), inverse).astype(
        np.float32
    )
