"""Decode photographs to their stored pixels, each kind by the library that reads it.

    file -> decode(kind, file, check) -> Stored: bands of stored pixels, profile, orientation, EXIF

The kinds are those of kinds.identify(). What is only needed for one of them is imported when one comes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from PIL import BmpImagePlugin, WebPImagePlugin

from prv2cli.photo.formats.heif import decode_heic
from prv2cli.photo.formats.jpeg.decode import decode_jpeg
from prv2cli.photo.formats.pillow import decode_8_bits, decode_avif
from prv2cli.photo.formats.png import decode_png
from prv2cli.photo.stored import CheckSize, Stored


def decode(kind: str, file: BinaryIO, check: CheckSize) -> Stored:
    """Decode `file` (seekable, at its start) of a `kind` that identify() returned.

    `check` is called with the width and height of the header before any pixel is decoded. Raises Unreadable,
    MemoryError, or whatever the decoder raises for a damaged file.
    """
    return DECODERS[kind](file, check)


def _decode_tiff(file: BinaryIO, check: CheckSize) -> Stored:
    from prv2cli.photo.formats.tiff import decode_tiff  # imports tifffile, which other formats do not need

    return decode_tiff(file, check)


DECODERS: dict[str, Callable[[BinaryIO, CheckSize], Stored]] = {
    "JPEG": decode_jpeg,
    "PNG": decode_png,
    "WebP": partial(decode_8_bits, WebPImagePlugin.WebPImageFile),
    "TIFF": _decode_tiff,
    "BMP": partial(decode_8_bits, BmpImagePlugin.BmpImageFile),
    "HEIC": decode_heic,
    "AVIF": decode_avif,
}
