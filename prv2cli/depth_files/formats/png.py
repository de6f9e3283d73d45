"""16-bit grey PNG. The metadata is a tEXt chunk "prv2"."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

from prv2cli.depth_files.formats.checks import MAX_RATIO, Decoded, check_pillow, size_of
from prv2cli.depth_files.formats.rows import INTEGER_LEVEL, Rows

PNG_KEY = "prv2"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(file: BinaryIO, rows: Rows, text: str) -> None:
    """16-bit grey PNG; every line holds its difference to the line above (filter "up")."""
    height, width = rows.shape
    file.write(PNG_SIGNATURE)
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
    _chunk(file, b"tEXt", PNG_KEY.encode() + b"\0" + text.encode("ascii"))
    deflate = zlib.compressobj(INTEGER_LEVEL)
    above = np.zeros((1, 2 * width), np.uint8)
    for band in rows:
        line = band.astype(">u2").view(np.uint8)  # (rows, 2 W)
        filtered = np.full((len(line), 1 + 2 * width), 2, np.uint8)  # byte 0 of a line: its filter
        np.subtract(line, np.concatenate([above, line[:-1]]), out=filtered[:, 1:])
        above = line[-1:]
        _chunk(file, b"IDAT", deflate.compress(filtered.data))
    _chunk(file, b"IDAT", deflate.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    if data or name != b"IDAT":
        crc = zlib.crc32(data, zlib.crc32(name))
        file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc))


def decode_png(file: BinaryIO) -> Decoded:
    """16-bit grey. Opened by class, as Image.open would try every format and has a smaller size limit."""
    from PIL.PngImagePlugin import PngImageFile

    check_pillow(PngImageFile(file), size_of(file) * MAX_RATIO)
    file.seek(0)
    PngImageFile(file).verify()  # the checksums, which load() does not look at
    file.seek(0)
    image = PngImageFile(file)
    image.load()
    return np.asarray(image), image.info.get(PNG_KEY)


def read_png_text(file: BinaryIO) -> str | None:
    """The text of the metadata, from the header alone."""
    from PIL.PngImagePlugin import PngImageFile

    return PngImageFile(file).info.get(PNG_KEY)
