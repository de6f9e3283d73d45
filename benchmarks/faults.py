"""Faults of coarse depth maps, for accuracy.py --fault: what depth networks get wrong, one at a time.

Each fault takes the full-size truth (H, W), holes filled, and gives what the coarse map is made of (`before`), or
changes the low-resolution map (h, w) itself (`after`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

NOISE = 0.03  # of the map's range, for each low-resolution pixel
DISPLACEMENT = 1.0  # low-resolution pixels, at most
BUMPS = 12  # of the displacement, across the map
THIN = 1.5  # low-resolution pixels: narrower foreground is lost

Map = np.ndarray


def _same(depth: Map, factor: int, rng: np.random.Generator) -> Map:
    return depth


class Fault(NamedTuple):
    before: Callable[[Map, int, np.random.Generator], Map] = _same
    after: Callable[[Map, int, np.random.Generator], Map] = _same


def _noisy(low: Map, factor: int, rng: np.random.Generator) -> Map:
    grain = rng.standard_normal(low.shape).astype(np.float32)
    return np.maximum(low + NOISE * (low.max() - low.min()) * grain, 0.05 * low.min())


def _displaced(low: Map, factor: int, rng: np.random.Generator) -> Map:
    height, width = low.shape
    fields = [cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC) for knots in _knots(rng)]
    longest = np.hypot(*fields).max()
    dx, dy = (DISPLACEMENT * field / longest for field in fields)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return cv2.remap(low, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _knots(rng: np.random.Generator) -> Map:
    return rng.standard_normal((2, BUMPS, BUMPS)).astype(np.float32)


def _without_thin_parts(truth: Map, factor: int, rng: np.random.Generator) -> Map:
    side = round(THIN * factor)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return cv2.morphologyEx(truth, cv2.MORPH_CLOSE, kernel)


FAULTS = {
    "none": Fault(),
    "noisy": Fault(after=_noisy),
    "displaced": Fault(after=_displaced),
    "thin": Fault(before=_without_thin_parts),
}
