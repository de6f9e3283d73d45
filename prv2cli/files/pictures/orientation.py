"""The orientation of EXIF and TIFF: how stored pixels are turned upright."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from prv2cli.files.pictures.png_chunks import chunk_data

ORIENTATION = 0x0112  # the tag, in EXIF and in TIFF


def valid_orientation(value: Any) -> int:
    """An EXIF orientation 1..8; anything else means 1, as in every viewer."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def orientation_of(image: Any) -> int:
    """That of an opened Pillow picture, 1 where its EXIF data are broken: the pixels are good without them."""
    try:
        return valid_orientation(image.getexif().get(ORIENTATION))
    except Exception:  # Pillow raises a dozen kinds
        return 1


def orientation_of_png(image: Any, file: BinaryIO) -> int:
    """That of an opened PNG, whose pixels are not decoded, as Pillow does in search of EXIF data behind them."""
    from PIL.Image import Exif
    from PIL.PngImagePlugin import PngImageFile

    try:
        exif = super(PngImageFile, image).getexif()
        if not exif and (late := chunk_data(file, b"eXIf")):
            exif = Exif()
            exif.load(late)
        return valid_orientation(exif.get(ORIENTATION))
    except Exception:  # as above
        return 1


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A view of `pixels` (H, W, ...) turned upright from an EXIF orientation 1..8."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation >= 5 else pixels
