"""Depth maps as tiled BigTIFF: what viewers of giant pictures (QGIS, GDAL, vips) read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from prv2cli.depth_files.formats.rows import Rows
from prv2cli.depth_files.formats.tiff import compress_differences, write_tiff

TILE = 512


def encode_tiled_tiff(file: BinaryIO, rows: Rows, text: str) -> None:
    """As tiff.encode_tiff, with the same numbers, in tiles of TILE x TILE pixels. `file` seeks and reads.

    Floats are written as integers with their predictor, for the reasons that encode_tiff gives.
    """
    write_tiff(file, rows, map(compress_differences, _tiles(rows)), text, bigtiff=True, tile=(TILE, TILE))


def _tiles(rows: Rows) -> Iterator[np.ndarray]:
    for band in _tile_rows(rows):
        for left in range(0, rows.shape[1], TILE):
            part = band[:, left : left + TILE]
            tile = np.zeros((TILE, TILE), part.dtype)  # beyond the picture: zeros
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


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
