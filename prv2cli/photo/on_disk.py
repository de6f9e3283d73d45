"""Read one photograph into a file of pixels: what read.read_photo reads, without ever holding it.

    file or pipe -> identify -> TIFF: strips one after the other (tiff_bands)
                                JPEG: decoded whole, a progressive one onto disk (jpeg_bands)
                                others: decoded whole by their library (decode), then given up
                 -> colours, alpha over white, upright: band by band -> DiskArray

A JPEG has to be decoded whole: Pillow takes 4 bytes a pixel for it, or libjpeg 2 to 6 for a progressive one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from prv2cli.files.disk_array import DiskArray
from prv2cli.files.pictures.orientation import turn
from prv2cli.photo.colour.to_srgb import ToSrgb, plan_srgb
from prv2cli.photo.formats.decode import decode
from prv2cli.photo.formats.jpeg.bands import decode_jpeg
from prv2cli.photo.formats.tiff_bands import open_in_bands
from prv2cli.photo.opening import MAX_PIXELS_DEFAULT, kind_of, label_of, opened, readable, size_check
from prv2cli.photo.read import Photo, photo_of
from prv2cli.photo.stored import CheckSize, Stored
from prv2cli.photo.upright import BAND_PIXELS, srgb_band, upright_shape

_TURNED_ROWS = 256  # rows become columns: the more at a time, the longer the pieces that are written


@contextmanager
def photo_on_disk(
    source: Path | BinaryIO,
    folder: Path,
    *,
    max_pixels: int = MAX_PIXELS_DEFAULT,
    name: str | None = None,
) -> Iterator[Photo]:
    """As read.read_photo, with the same values, but `rgb` is a DiskArray in `folder` until the block ends.

    Raises what read_photo raises, and DiskFullError where the folder's disk is too small.
    """
    label = name or label_of(source)
    with readable(label), opened(source, label) as file:
        photo = _read(file, label, folder, max_pixels)
    rgb: Any = photo.rgb
    with rgb:
        yield photo


def _read(file: BinaryIO, label: str, folder: Path, max_pixels: int) -> Photo:
    kind, check = kind_of(file, label), size_check(max_pixels)
    with _decoded(kind, file, check, folder) as stored:
        plan = plan_srgb(stored.icc, stored.model, stored.deep)
        rgb, composited = _assemble(stored, plan, folder)
    pixels: Any = rgb
    return photo_of(pixels, stored, plan, file, label, composited=composited)


@contextmanager
def _decoded(kind: str, file: BinaryIO, check: CheckSize, folder: Path) -> Iterator[Stored]:
    if kind == "JPEG":
        with decode_jpeg(file, check, folder) as stored:
            yield stored
    else:
        yield open_in_bands(file, check) if kind == "TIFF" else decode(kind, file, check)


def _assemble(stored: Stored, plan: ToSrgb, folder: Path) -> tuple[DiskArray, bool]:
    """Bring all bands to upright sRGB: (H, W, 3) uint8 or uint16, and whether any pixel was transparent."""
    rgb = DiskArray(upright_shape(stored), np.uint16 if plan.deep else np.uint8, folder)
    composited = False
    step = max(1, BAND_PIXELS // stored.width, _TURNED_ROWS if stored.orientation >= 5 else 0)
    try:
        for y in range(0, stored.height, step):
            stop = min(y + step, stored.height)
            colour, seen = srgb_band(stored, plan, y, stop)
            composited |= seen
            rgb[_upright_place(y, stop, stored)] = turn(colour, stored.orientation)
    except BaseException:  # Ctrl-C too: the disk space is given back at once
        rgb.close()
        raise
    return rgb, composited


def _upright_place(y0: int, y1: int, stored: Stored) -> tuple[slice, slice]:
    """Where the stored rows y0 to y1 lie in the upright picture."""
    if stored.orientation in (3, 4, 6, 7):  # stored from the bottom
        y0, y1 = stored.height - y1, stored.height - y0
    place, whole = slice(y0, y1), slice(None)
    return (whole, place) if stored.orientation >= 5 else (place, whole)
