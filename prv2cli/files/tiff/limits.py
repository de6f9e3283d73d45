"""Refuse a TIFF whose strips or tiles hold more or less than its picture, before any is decoded.

tifffile unpacks Deflate and LZMA whole, whatever comes out: 1 MB in the file can be 1 GB in memory, and one such
strip can be named a thousand times. The codecs of the package imagecodecs stop at the size they are given.
"""

from __future__ import annotations

import importlib.util
import lzma
import math
import zlib
from typing import Any, BinaryIO

_PLAIN, _DEFLATE, _LZMA = 1, (8, 32946), 34925
_PIECE = 1 << 18
_SLACK = 1 << 12  # bytes that a sloppy writer may have left at the end of a strip
_SMALL_TILE = 1 << 20  # pixels; a small picture may lie in one tile of this size
_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_layout(page: Any) -> None:
    """Raise ValueError for too few strips or tiles, and for tiles much larger than the picture.

    tifffile would leave the memory of what is missing as it finds it, and it decodes one tile as a whole.
    """
    pieces = math.prod(page.chunked)
    if (
        min(len(page.dataoffsets), len(page.databytecounts)) < pieces
        or pieces * math.prod(page.chunks) < page.size
    ):
        raise ValueError("strips or tiles are missing")
    if page.is_tiled:
        pixels = page.tilewidth * page.tilelength
        if pixels > max(4 * page.imagewidth * page.imagelength, _SMALL_TILE):
            raise ValueError(f"tiles of {page.tilewidth} x {page.tilelength} are larger than the picture")


def correct_counts(page: Any, file_size: int) -> bool:
    """Put right, in tifffile's `page`, how long strips and tiles are said to be, where their place tells it.

    Returns whether anything was wrong.

    Uncompressed ones are as long as their pixels; what surpasses the file's end is cut there. Some writers leave the
    numbers out, or round them up. Whether all pixels are there the decoders find out.
    """
    offsets, counts = page.dataoffsets, list(page.databytecounts)
    if int(page.compression) == _PLAIN and page.dtype is not None and not page.is_subsampled and len(offsets):
        rows = (
            page.tilelength if page.is_tiled else min(page.rowsperstrip or page.imagelength, page.imagelength)
        )
        columns = page.tilewidth if page.is_tiled else page.imagewidth
        samples = page.samplesperpixel if page.planarconfig == 1 else 1
        bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
        row = math.ceil(columns * samples * bits / 8)
        down = math.ceil(page.imagelength / rows)
        for index, start in enumerate(offsets):
            last = not page.is_tiled and index % down == down - 1
            needed = row * (page.imagelength - rows * (down - 1) if last else rows)
            said = counts[index] if index < len(counts) else 0
            if start > 0 and start + needed <= file_size and (said <= 0 or start + said > file_size):
                counts[index : index + 1] = [needed]
    pairs = zip(offsets, counts, strict=False)
    counts = [file_size - start if 0 < start < file_size < start + count else count for start, count in pairs]
    wrong = counts != list(page.databytecounts)
    page.databytecounts = tuple(counts)
    return wrong


def check_expansion(file: BinaryIO, page: Any) -> None:
    """Raise ValueError where a strip or tile unpacks to more than its share of the picture; reads all of them.

    `page` is a tifffile page with whole-byte samples whose strips lie in `file`.
    """
    code = int(page.compression)
    if code not in (*_DEFLATE, _LZMA) or importlib.util.find_spec("imagecodecs") is not None:
        return
    most = math.prod(page.chunks) * page.dtype.itemsize + _SLACK
    for index in range(min(len(page.dataoffsets), len(page.databytecounts))):
        data = read_segment(file, page, index)
        if (_inflates if code in _DEFLATE else _expands)(data, most):
            raise ValueError("a strip or tile unpacks to more than the picture")


def read_segment(file: BinaryIO, page: Any, index: int) -> bytes:
    """The bytes of a strip or tile, their bits in the usual order."""
    file.seek(page.dataoffsets[index])
    data = file.read(page.databytecounts[index])
    return data.translate(_BITS_REVERSED) if page.fillorder == 2 else data


def _inflates(data: bytes, most: int) -> bool:
    """Whether Deflate data gives more than `most` bytes, of which a few are in memory at a time."""
    decoder = zlib.decompressobj()
    while data and not decoder.eof:
        most -= len(decoder.decompress(data, _PIECE))
        if most < 0:
            return True
        data = decoder.unconsumed_tail
    return False


def _expands(data: bytes, most: int) -> bool:
    """As _inflates, for LZMA."""
    decoder = lzma.LZMADecompressor(memlimit=1 << 28)
    while not decoder.eof:
        part = decoder.decompress(data, _PIECE)
        if not part and decoder.needs_input:
            return False
        most, data = most - len(part), b""
        if most < 0:
            return True
    return False
