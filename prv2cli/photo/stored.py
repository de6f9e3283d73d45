"""A decoded picture as its file stores it, before colours are converted and it is turned upright."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

CheckSize = Callable[[int, int], None]  # (width, height), raises Unreadable


class Band(NamedTuple):
    """Some whole rows of stored pixels, all uint8 or all uint16."""

    colour: np.ndarray  # (n, W) grey or (n, W, C)
    alpha: np.ndarray | None  # (n, W), not premultiplied


@dataclass(frozen=True)
class Stored:
    """A picture as its file stores it: not turned upright, in its own colours."""

    width: int
    height: int
    model: str  # "L", "RGB", "CMYK" or "LAB"
    deep: bool  # uint16, else uint8
    band: Callable[[int, int], Band]  # rows y0 to y1
    icc: bytes | None = None
    orientation: int = 1  # EXIF, 1..8
    exif: Mapping[int, Any] | None = None  # the EXIF sub-IFD by tag number
    notes: tuple[str, ...] = ()
    whole: np.ndarray | None = None  # the pixels, where they already lie in one native (H, W, 3) array


def unpremultiplied(colour: np.ndarray, alpha: np.ndarray) -> Band:
    """A band whose colours were stored multiplied by alpha, with the colours divided by it again."""
    top = np.iinfo(colour.dtype).max
    weight = alpha if colour.ndim == 2 else alpha[..., None]
    divided = np.minimum(colour.astype(np.float32) * top / np.maximum(weight, 1), top)
    return Band(np.rint(divided).astype(colour.dtype), alpha)
