"""Decode a TIFF a few strips or rows of tiles at a time, whatever their compression and layout.

    the file's directory -> runs of strips -> each run as a small TIFF of its own -> tiff.decode_tiff

A run of strips with a directory that says its height is a TIFF. So every kind of pixels that is read at all is
read in bands by the same code, with the same values.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
import tifffile

from prv2cli.files.pictures.orientation import ORIENTATION, valid_orientation
from prv2cli.photo.formats.tiff import check_segments, decode_tiff, exif_of, picture_page
from prv2cli.photo.stored import Band, CheckSize, Stored

RUN_PIXELS = 1 << 22
_WIDTH, _LENGTH, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 278, 322, 323
_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 273, 279, 324, 325
_UNCOMPRESSED, _OLD_JPEG = 1, 6
# All that tells how pixels are stored: bits, compression, photometric, fill order, samples, planes, fax options,
# predictor, colour map, ink set, extra samples, sample format, JPEG tables, YCbCr, profile. Not the orientation:
# Pillow would turn each run.
_COPIED = (
    *(258, 259, 262, 266, 277, 284, 292, 293, 317, 320, 332, 338, 339, 347, 529, 530, 531, 532),
    34675,
)
_LONG = 4  # the type of 32-bit numbers


def open_in_bands(file: BinaryIO, check: CheckSize) -> Stored:
    """As tiff.decode_tiff, but `band` reads and decodes the rows when they are asked for.

    `file` must stay open. Rows are asked for from the top: only the last run of strips is kept. A picture in one
    compressed strip, or in the JPEG layout of TIFF 6.0, is decoded whole.
    """
    with tifffile.TiffFile(file) as tiff:
        page, notes = picture_page(tiff)
        check(page.imagewidth, page.imagelength)
        check_segments(page, file.seek(0, io.SEEK_END))
        runs = _Runs.of(file, page, tiff.byteorder)
        turned = valid_orientation(page.tags.valueof(ORIENTATION))
        exif = exif_of(file, page)
    if runs is None:
        file.seek(0)
        return decode_tiff(file, check)
    first = runs.decoded(0)
    return replace(
        first,
        height=runs.height,
        band=runs.band,
        orientation=turned,
        whole=None,
        exif=exif,
        notes=(*notes, *first.notes),
    )


def run_pixels(page: Any) -> int:
    """How many pixels of a page are decoded at a time."""
    return min(page.imagelength, _rows_per_run(page)) * page.imagewidth


def _unit(page: Any) -> int:
    """The fewest rows that can be decoded by themselves."""
    if page.is_tiled:
        return int(page.tilelength)
    if _splits(page):
        return 1
    return int(min(page.rowsperstrip or page.imagelength, page.imagelength))


def _splits(page: Any) -> bool:
    """Whether strips can be cut anywhere: whole rows of uncompressed pixels, one behind the other in the file."""
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    return (
        page.compression == _UNCOMPRESSED
        and not page.is_tiled
        and not page.is_subsampled
        and (page.planarconfig == 1 or page.samplesperpixel == 1)
        and list(page.dataoffsets[1:]) == ends[:-1]
    )


def _rows_per_run(page: Any) -> int:
    if page.compression == _OLD_JPEG or page.imagedepth > 1:
        return int(page.imagelength)
    unit = _unit(page)
    return unit * max(1, RUN_PIXELS // (unit * page.imagewidth))


@dataclass
class _Runs:
    """The runs of strips (or rows of tiles) of a page; run i holds the rows from i * rows."""

    file: BinaryIO
    order: str
    width: int
    height: int
    rows: int
    unit: int
    tile: tuple[int, int] | None  # rows, columns
    planes: int
    offsets: Sequence[int]
    counts: Sequence[int]
    row_bytes: int | None  # where strips can be cut anywhere
    tags: list[tuple[int, int, int, bytes]]  # code, type, count, value
    _kept: dict[int, Stored] = field(default_factory=dict)

    @classmethod
    def of(cls, file: BinaryIO, page: Any, order: str) -> _Runs | None:
        """None where the page has one run only, or a layout that is not understood."""
        rows, unit = _rows_per_run(page), _unit(page)
        if rows >= page.imagelength:
            return None
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        tile = (page.tilelength, page.tilewidth) if page.is_tiled else None
        row_bytes = None
        if _splits(page):
            row_bytes = math.ceil(page.imagewidth * page.samplesperpixel * page.bitspersample / 8)
        else:
            across = math.ceil(page.imagewidth / tile[1]) if tile else 1
            if len(page.dataoffsets) != planes * across * math.ceil(page.imagelength / unit):
                return None
        return cls(
            file,
            order,
            page.imagewidth,
            page.imagelength,
            rows,
            unit,
            tile,
            planes,
            page.dataoffsets,
            page.databytecounts,
            row_bytes,
            [_raw(file, page.tags[code]) for code in _COPIED if code in page.tags],
        )

    def band(self, y0: int, y1: int) -> Band:
        """Rows y0 to y1."""
        parts = []
        for index in range(y0 // self.rows, (y1 - 1) // self.rows + 1):
            top = index * self.rows
            stored = self.decoded(index)
            parts.append(stored.band(max(y0, top) - top, min(y1 - top, stored.height)))
        if len(parts) == 1:
            return parts[0]
        colour = np.concatenate([part.colour for part in parts])
        alphas = [part.alpha for part in parts if part.alpha is not None]
        return Band(colour, np.concatenate(alphas) if alphas else None)

    def decoded(self, index: int) -> Stored:
        """Run `index`, from the file unless it was the last one asked for."""
        if index not in self._kept:
            self._kept.clear()
            with io.BytesIO(self._as_tiff(index)) as run:  # closed: tifffile's cycles would keep its bytes
                self._kept[index] = decode_tiff(run, lambda width, height: None)
        return self._kept[index]

    def _as_tiff(self, index: int) -> bytes:
        height = min(self.rows, self.height - index * self.rows)
        pieces = [self._bytes(start, count) for start, count in self._segments(index, height)]
        tags = [
            *self.tags,
            self._longs(_WIDTH, [self.width]),
            self._longs(_LENGTH, [height]),
        ]
        if self.tile:
            tags += [self._longs(_TILE_LENGTH, [self.tile[0]]), self._longs(_TILE_WIDTH, [self.tile[1]])]
        else:
            tags.append(self._longs(_ROWS_PER_STRIP, [height if self.row_bytes else self.unit]))
        return self._joined(tags, pieces)

    def _segments(self, index: int, height: int) -> list[tuple[int, int]]:
        """Where the run's strips or tiles lie in the file, and how long they are; plane after plane."""
        if self.row_bytes:
            start = self.offsets[0] + index * self.rows * self.row_bytes
            return [(start, height * self.row_bytes)]
        across = math.ceil(self.width / self.tile[1]) if self.tile else 1
        in_plane = len(self.offsets) // self.planes
        first, last = index * self.rows // self.unit, math.ceil((index * self.rows + height) / self.unit)
        chosen = [
            plane * in_plane + i for plane in range(self.planes) for i in range(first * across, last * across)
        ]
        return [(self.offsets[i], self.counts[i]) for i in chosen]

    def _bytes(self, start: int, count: int) -> bytes:
        self.file.seek(start)
        data = self.file.read(count)
        if len(data) < count:
            raise ValueError("it ends before its last strip or tile")
        return data

    def _longs(self, code: int, values: list[int]) -> tuple[int, int, int, bytes]:
        return code, _LONG, len(values), struct.pack(f"{self.order}{len(values)}I", *values)

    def _joined(self, tags: list[tuple[int, int, int, bytes]], pieces: list[bytes]) -> bytes:
        """A classic TIFF: header, directory, values that do not fit into it, pixels."""
        offsets_tag, counts_tag = (
            (_TILE_OFFSETS, _TILE_COUNTS) if self.tile else (_STRIP_OFFSETS, _STRIP_COUNTS)
        )
        blank = self._longs(offsets_tag, [0] * len(pieces))
        counts = self._longs(counts_tag, [len(piece) for piece in pieces])
        outside = sum(len(value) + 1 for *_, value in (*tags, blank, counts) if len(value) > 4)
        at = 8 + 2 + 12 * (len(tags) + 2) + 4
        starts = np.cumsum([at + outside, *(len(piece) for piece in pieces)])[:-1].tolist()
        values, entries = bytearray(), bytearray()
        for code, kind, count, value in sorted([*tags, self._longs(offsets_tag, starts), counts]):
            entries += struct.pack(f"{self.order}HHI", code, kind, count)
            if len(value) <= 4:
                entries += value.ljust(4, b"\0")
            else:
                entries += struct.pack(f"{self.order}I", at + len(values))
                values += value + b"\0" * (len(value) % 2)  # values start at even places
        magic = b"II" if self.order == "<" else b"MM"
        head = magic + struct.pack(f"{self.order}HIH", 42, 8, len(tags) + 2)
        return b"".join([head, entries, bytes(4), bytes(values).ljust(outside, b"\0"), *pieces])


def _raw(file: BinaryIO, tag: Any) -> tuple[int, int, int, bytes]:
    """A tag as it stands in the file. None of the copied ones has the 8-byte types of BigTIFF."""
    if int(tag.dtype) > 13:
        raise ValueError(f"tag {tag.code} is of an unusual type")
    file.seek(tag.valueoffset)
    return int(tag.code), int(tag.dtype), int(tag.count), file.read(tag.valuebytecount)
