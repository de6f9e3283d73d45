"""The faults of depth networks by formulas: edges that are nearly sharp and lie in the wrong place.

A network resolves one pixel in two to six of the photograph. At that scale silhouettes wander, near things grow, thin
ones are lost, fattened or merged, creases are smooth, levels are bent; blur is the least of it. Each fault is drawn for
itself and happens in patches, so that a sample is right in one place and wrong in the next.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prv2cli.extras import import_opencv

Rng = np.random.Generator


class Faulty(NamedTuple):
    """depth: (H, W) float32 metres. unit: pixels of it that the network resolves. blur: standard deviation, pixels."""

    depth: np.ndarray
    unit: float
    blur: float


def as_network(rgb: np.ndarray, depth: np.ndarray, rng: Rng) -> Faulty:
    """A network's idea of a scene: rgb (H, W, 3) in 0..1 and depth (H, W) metres -> its map."""
    cv2 = import_opencv()
    unit = float(np.exp(rng.uniform(np.log(1.2), np.log(7))))
    log_depth = np.log(depth)
    spread = max(0.05, float(log_depth.std()))
    if rng.random() < 0.6:
        log_depth = _merged(log_depth, rng.uniform(0.5, 1.3) * unit, rng)
    if rng.random() < 0.7:
        log_depth = _fattened(log_depth, rng.uniform(0.2, 1.0) * unit, rng)
    if rng.random() < 0.8:
        log_depth = _wandering(log_depth, rng.uniform(0.15, 0.8) * unit, unit, rng)
    inverse = rng.random() < 0.6
    values = np.exp(-log_depth) if inverse else log_depth
    height, width = depth.shape
    small = (max(8, round(width / unit)), max(8, round(height / unit)))
    values = cv2.resize(values.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    sigma = float(rng.uniform(0.25, 0.8))
    values = cv2.GaussianBlur(values, (0, 0), sigma)
    if rng.random() < 0.2:
        values = values + float(rng.uniform(0, 0.5)) * (
            values - cv2.GaussianBlur(values, (0, 0), 2.5)
        )  # halos
    if rng.random() < 0.3:
        values = values + _texture(rgb, small) * float(rng.uniform(0, 0.04) * values.std())
    mode = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC
    values = cv2.resize(values, (width, height), interpolation=mode)
    log_depth = -np.log(np.maximum(values, 1e-4)) if inverse else values
    log_depth = _bent(log_depth, spread, rng)
    blur = unit * float(np.hypot(sigma, 0.5))
    return Faulty(np.exp(np.clip(log_depth, -7, 9)).astype(np.float32), unit, blur)


def _patches(shape: tuple[int, ...], share: float, rng: Rng) -> np.ndarray:
    """(H, W) 0..1, soft: where a fault happens."""
    return 1 / (1 + np.exp(-6 * (_field(shape, int(rng.integers(2, 7)), rng) - _quantile(1 - share))))


def _quantile(share: float) -> float:
    """Of a field of about unit variance, by the logistic function."""
    share = min(max(share, 0.02), 0.98)
    return float(np.log(share / (1 - share)) / 1.7)


def _field(shape: tuple[int, ...], cells: int, rng: Rng) -> np.ndarray:
    """(H, W) smooth noise, `cells` bumps across."""
    cv2 = import_opencv()
    knots = rng.standard_normal((cells + 2, cells + 2), dtype=np.float32)
    return cv2.resize(knots, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _ellipse(radius: float) -> np.ndarray:
    cv2 = import_opencv()
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _merged(log_depth: np.ndarray, radius: float, rng: Rng) -> np.ndarray:
    """Thin near things lost to what lies behind them, or the gaps between them closed."""
    cv2 = import_opencv()
    how = cv2.MORPH_CLOSE if rng.random() < 0.6 else cv2.MORPH_OPEN
    without = cv2.morphologyEx(log_depth.astype(np.float32), how, _ellipse(radius))
    return np.where(_patches(log_depth.shape, rng.uniform(0.3, 1), rng) > 0.5, without, log_depth)


def _fattened(log_depth: np.ndarray, radius: float, rng: Rng) -> np.ndarray:
    """Near things grown into what lies behind them; in a quarter of the samples shrunk."""
    cv2 = import_opencv()
    grow = cv2.erode if rng.random() < 0.75 else cv2.dilate
    grown = grow(log_depth.astype(np.float32), _ellipse(radius))
    return np.where(_patches(log_depth.shape, rng.uniform(0.2, 0.9), rng) > 0.5, grown, log_depth)


def _wandering(log_depth: np.ndarray, amount: float, unit: float, rng: Rng) -> np.ndarray:
    """Everything moved by two smooth fields, one of bumps of a few of the network's pixels, one of larger ones."""
    cv2 = import_opencv()
    height, width = log_depth.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for cells, share in (
        (max(4, int(width / (unit * rng.uniform(4, 12)))), 0.7),
        (int(rng.integers(3, 8)), 0.5),
    ):
        x = x + share * amount * _field(log_depth.shape, cells, rng)
        y = y + share * amount * _field(log_depth.shape, cells, rng)
    return cv2.remap(log_depth.astype(np.float32), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _texture(rgb: np.ndarray, small: tuple[int, int]) -> np.ndarray:
    """What a network takes from the photograph's texture, of unit variance."""
    cv2 = import_opencv()
    grey = cv2.resize(rgb.mean(axis=2).astype(np.float32), small, interpolation=cv2.INTER_AREA)
    fine = cv2.GaussianBlur(grey, (0, 0), 0.7) - cv2.GaussianBlur(grey, (0, 0), 3)
    return fine / max(1e-4, float(fine.std()))


def _bent(log_depth: np.ndarray, spread: float, rng: Rng) -> np.ndarray:
    """Levels off by a smooth curve of the depth, and by a smooth field."""
    centre = float(np.median(log_depth))
    relative = (log_depth - centre) / spread
    bend = rng.uniform(-0.25, 0.25) * relative + rng.uniform(-0.06, 0.06) * np.abs(relative)
    return log_depth + spread * (bend + rng.uniform(0, 0.1) * _field(log_depth.shape, 3, rng))
