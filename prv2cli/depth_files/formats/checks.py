"""What every decoder refuses before it reads a pixel: no depth map, too large, or more than the file can hold."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import numpy as np

from prv2cli.errors import InputError

MAX_PIXELS = 1 << 30
MAX_RATIO = 3000  # more than deflate (1032) and LZW can pack: a file that claims more is damaged or a bomb
Decoded = tuple[np.ndarray, str | None]  # the numbers and the text of prv2 metadata


def check(shape: tuple[int, ...], dtype: np.dtype[Any], available: int) -> None:
    """Refuse what is no depth map, before it is read. `available`: the bytes that the file can yield."""
    if len(shape) == 3 and shape[-1] in (3, 4):
        raise InputError("a colour image, not depth; prv2 reads one number per pixel")
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
