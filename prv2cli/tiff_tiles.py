"""Depth maps as tiled BigTIFF: what viewers of giant pictures (QGIS, GDAL, vips) read piece by piece."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from prv2cli.depth_writers import _FLOAT_LEVEL, _INTEGER_LEVEL, Rows

TILE = 512


def encode_tiled_tiff(file: BinaryIO, rows: Rows, text: str) -> None:
    """As depth_writers.encode_tiff, with the same numbers, in tiles of TILE x TILE pixels. `file` seeks and reads.

    Floats are written as integers with their predictor, for the reasons that encode_tiff gives.
    """
    import tifffile

    is_float = rows.dtype == np.float32
    with tifffile.TiffWriter(file, bigtiff=True, byteorder="<") as tiff:
        tiff.write(
            _tiles(rows, _FLOAT_LEVEL if is_float else _INTEGER_LEVEL),
            shape=rows.shape,
            dtype=np.int32 if is_float else np.uint16,
            tile=(TILE, TILE),
            compression="zlib",
            predictor=2,
            photometric="minisblack",
            description=text,
            software=False,
            metadata=None,
        )
    if is_float:
        file.seek(0)
        with tifffile.TiffFile(file) as written:
            page: Any = written.pages[0]
            page.tags["SampleFormat"].overwrite(3)  # IEEE floats
        file.seek(0, io.SEEK_END)


def _tiles(rows: Rows, level: int) -> Iterator[bytes]:
    bits = np.dtype("<u2" if rows.dtype == np.uint16 else "<u4")
    width = rows.shape[1]
    for band in _tile_rows(rows):
        for left in range(0, width, TILE):
            tile = np.zeros((TILE, TILE), bits)  # beyond the picture: zeros
            part = band[:, left : left + TILE]
            tile[: part.shape[0], : part.shape[1]] = part.view(bits)
            differences = tile.copy()
            differences[:, 1:] -= tile[:, :-1]
            yield zlib.compress(differences.data, level)


def _tile_rows(rows: Rows) -> Iterator[np.ndarray]:
    """The stored numbers, TILE rows at a time; fewer at the end."""
    waiting: list[np.ndarray] = []
    count = 0
    for band in rows:
        waiting.append(band)
        count += len(band)
        if count >= TILE:
            joined = np.concatenate(waiting)
            for top in range(0, count - TILE + 1, TILE):
                yield joined[top : top + TILE]
            waiting, count = [joined[count - count % TILE :]], count % TILE
    if count:
        yield np.concatenate(waiting)
