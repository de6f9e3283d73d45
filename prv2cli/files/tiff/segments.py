"""Strips and tiles that tifffile alone does not undo: LZW, PackBits, ZSTD, and the predictor of floats.

    a strip's bytes -> unpacked by the libtiff inside Pillow, as a grey picture of bytes
                    -> predictor undone -> numbers in the file's byte order and type

libtiff sees bytes only: it knows nothing of types, byte order, predictors and planes, and so cannot differ from
tifffile in them.
"""

from __future__ import annotations

import importlib.util
import io
import math
import struct
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin, features

from prv2cli.files.tiff.limits import read_segment

_PLAIN = 1
_OF_BYTES = (5, 8, 32773, 32946, 34925, 50000)  # LZW, Deflate, PackBits, Deflate, LZMA, ZSTD
_NOT_EVERYWHERE = (34925, 50000, 50001)  # LZMA, ZSTD, WebP: libtiff can be built without
_HORIZONTAL, _FLOATING = 2, 3
_PREDICTED = (5, 8, 32946, 34925, 50000)  # with others the tag means nothing, as in libtiff
_SHORT, _LONG = 3, 4


def name_of(compression: int) -> str:
    """What people call a compression of TIFF."""
    return str(getattr(compression, "name", compression)).replace("_", " ")


def whole_by_tifffile(page: Any) -> bool:
    """Whether tifffile undoes a page's compression and predictor with what is installed."""
    if importlib.util.find_spec("imagecodecs") is not None:
        return True
    return int(page.compression) in (_PLAIN, 8, 32946, 34925) and int(page.predictor) in (1, _HORIZONTAL)


def readable(page: Any) -> bool:
    """Whether read_segments reads a page."""
    return (
        page.dtype is not None
        and page.bitspersample == 8 * page.dtype.itemsize
        and page.imagedepth == 1
        and _predictor(page) in (1, _HORIZONTAL, _FLOATING)
        and (_predictor(page) != _FLOATING or page.dtype.kind == "f")
        and (
            int(page.compression) == _PLAIN
            or (int(page.compression) in _OF_BYTES and unpacks(int(page.compression)))
        )
    )


def _predictor(page: Any) -> int:
    return int(page.predictor) if int(page.compression) in _PREDICTED else 1


def read_segments(file: BinaryIO, page: Any) -> np.ndarray:
    """The numbers of a page that is `readable`: (planes, 1, H, W, samples), in the file's byte order.

    page: of tifffile, whose strips lie in `file`. Raises ValueError or OSError for damaged strips.
    """
    planes, samples = (page.samplesperpixel, 1) if page.planarconfig == 2 else (1, page.samplesperpixel)
    height, width = page.imagelength, page.imagewidth
    dtype = page.dtype.newbyteorder(page.parent.byteorder)
    out = np.zeros((planes, 1, height, width, samples), dtype)
    rows, columns = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    )
    down, across = math.ceil(height / rows), math.ceil(width / columns)
    for index in range(planes * down * across):
        plane, row, column = np.unravel_index(index, (planes, down, across))
        top, left = int(row) * rows, int(column) * columns
        tall = rows if page.is_tiled else min(rows, height - top)
        data = read_segment(file, page, index)
        if not data:  # a strip that was left out holds nothing
            continue
        part = _numbers(data, page, (tall, columns, samples), dtype)
        out[plane, 0, top : top + tall, left : left + columns] = part[: height - top, : width - left]
    return out


def _numbers(data: bytes, page: Any, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> np.ndarray:
    rows, columns, samples = shape
    row_bytes = columns * samples * dtype.itemsize
    raw = data if int(page.compression) == _PLAIN else _unpack(data, int(page.compression), rows, row_bytes)
    if len(raw) < rows * row_bytes:
        raise ValueError("a strip or tile holds less than its part of the picture")
    flat = np.frombuffer(raw, np.uint8, rows * row_bytes)
    if _predictor(page) == _FLOATING:
        return _from_planes_of_bytes(flat, shape, dtype)
    values = flat.view(dtype).reshape(shape)
    if _predictor(page) == _HORIZONTAL:
        bits = values.view(np.dtype(f"u{dtype.itemsize}").newbyteorder(dtype.byteorder))
        summed: np.ndarray = np.cumsum(bits, axis=1, dtype=f"=u{dtype.itemsize}")
        values = summed.view(dtype.newbyteorder("="))
    return values


def _from_planes_of_bytes(flat: np.ndarray, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> np.ndarray:
    """Undo the predictor of floats: differences of bytes, a row's highest bytes first whatever the file's order."""
    rows, columns, samples = shape
    summed = np.cumsum(flat.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
    by_value = summed.reshape(rows, dtype.itemsize, columns * samples).transpose(0, 2, 1)
    return np.ascontiguousarray(by_value).view(dtype.newbyteorder(">")).reshape(shape)


def _unpack(data: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """`data` unpacked to rows * row_bytes bytes, by libtiff."""
    file = io.BytesIO(_picture_of_bytes(data, compression, rows, row_bytes))
    image = TiffImagePlugin.TiffImageFile(file)
    image.load()
    return image.tobytes()


def _picture_of_bytes(data: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    tags = {
        256: (_LONG, row_bytes),
        257: (_LONG, rows),
        258: (_SHORT, 8),
        259: (_SHORT, compression),
        262: (_SHORT, 1),
        277: (_SHORT, 1),
        278: (_LONG, rows),
        279: (_LONG, len(data)),
    }
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    tags[273] = (_LONG, start)
    entries = [struct.pack("<HHII", code, kind, 1, value) for code, (kind, value) in sorted(tags.items())]
    return b"".join([b"II*\0\x08\0\0\0", struct.pack("<H", len(tags)), *entries, bytes(4), data])


@cache
def unpacks(compression: int) -> bool:
    """Whether the libtiff inside Pillow knows one of TIFF's compressions. Not all are built with ZSTD or WebP."""
    name = TiffImagePlugin.COMPRESSION_INFO.get(compression)
    if name is None or not features.check("libtiff"):
        return name == "raw"
    if compression not in _NOT_EVERYWHERE:
        return True
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), "TIFF", compression=name)
    except (OSError, RuntimeError, ValueError):
        return False
    return True
