"""What every decoder refuses before it reads a pixel: no depth map, too large, or more than the file can hold."""

from __future__ import annotations

import math
import os
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from prv2cli.errors import InputError

MAX_PIXELS = 1 << 30
COLOUR = "a colour image, not depth; prv2 reads one number per pixel"
_FEW_DIGITS, _ROUND_FROM = 1e-4, 1e9  # numbers that large are written with few digits, and are no depth
MAX_RATIO = 3000  # more than deflate (1032) and LZW can pack: a file that claims more is damaged or a bomb


class Decoded(NamedTuple):
    """What a file holds: the numbers (H, W), the text of prv2 metadata, which pixels it says are no depth itself."""

    numbers: np.ndarray
    text: str | None
    holes: np.ndarray | None = None  # (H, W) bool
    notes: tuple[str, ...] = ()


def check(shape: tuple[int, ...], dtype: np.dtype[Any], available: int) -> None:
    """Refuse what is no depth map, before it is read. `available`: the bytes that the file can yield."""
    if len(shape) == 3 and shape[-1] in (3, 4):
        raise InputError(COLOUR)
    if len(shape) != 2:
        raise InputError(f"an array of shape {shape}; a depth map is 2-D: (height, width)")
    if dtype.kind in "biu" and dtype.itemsize == 1:
        raise InputError(
            "8-bit numbers, 256 steps at most: a picture of a depth map, not the map; use a 16-bit file"
        )
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"numbers of type {dtype}; depth is integers or floats")
    height, width = shape
    if height < 1 or width < 1:
        raise InputError(f"a map of {width} x {height} holds no pixels")
    if height * width > MAX_PIXELS:
        raise InputError(f"{width} x {height} is more than the {MAX_PIXELS} pixels that prv2 reads")
    if height * width * dtype.itemsize > available:
        raise InputError(f"truncated: it claims {width} x {height} pixels and is too small for them")


def map_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the axes of length 1 that networks put around a map: (1, H, W, 1) -> (H, W)."""
    if len(shape) <= 2:
        return shape
    kept = tuple(length for length in shape if length != 1)
    if len(kept) >= 2:
        return kept
    return shape[-2:] if math.prod(shape[:-2]) == 1 else shape


def check_pillow(image: Any, available: int) -> None:
    """check() for a Pillow image that is open and not yet loaded."""
    types = {"I;16": "<u2", "I;16B": ">u2", "I": "i4", "F": "f4", "L": "u1", "P": "u1", "1": "u1", "LA": "u1"}
    if image.mode not in types:
        raise InputError(f"a colour image ({image.mode}), not depth; prv2 reads one number per pixel")
    check((image.height, image.width), np.dtype(types[image.mode]), available)


def size_of(file: BinaryIO) -> int:
    """Bytes in a seekable file, which stays where it stands."""
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size


def equal_to(numbers: np.ndarray, text: str) -> np.ndarray | None:
    """Where `numbers` are the one that `text` writes in decimals, (H, W) bool; None where none can be.

    Text of few digits means the nearest float: 3.4028e+38 is the largest one.
    """
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):  # is no depth anyway
        return None
    if numbers.dtype.kind != "f":
        return numbers == int(value) if value.is_integer() else None
    with np.errstate(all="ignore"):
        nearest = numbers.dtype.type(value)
        if not np.isfinite(nearest):  # no number of this type
            return None
        slack = _FEW_DIGITS * abs(value) if abs(value) >= _ROUND_FROM else 4 * abs(np.spacing(nearest))
        return (numbers == nearest) | (np.abs(numbers - value) <= slack)
