"""PNG: whole chunks only, and 16 bits a colour as they are."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import ImageFile, PngImagePlugin

from prv2cli.photo.formats.pillow import frames_note, from_pillow, open_pillow, with_metadata
from prv2cli.photo.formats.two_halves import TwoHalves, load_as
from prv2cli.photo.stored import Band, CheckSize, Stored


def decode_png(file: BinaryIO, check: CheckSize) -> Stored:
    """See decode.decode."""
    image = open_pillow(PngImagePlugin.PngImageFile, file, check)
    _check_chunks(file)
    layout = image.tile[0][3] if image.tile else None
    if layout not in ("I;16B", "RGB;16B", "RGBA;16B", "LA;16B"):
        return from_pillow(image, frames_note(image))
    key = image.info.get("transparency")
    pixels = _pixels(file, image, layout, check)
    grey = layout in ("I;16B", "LA;16B")

    def band(y0: int, y1: int) -> Band:
        values = pixels(y0, y1)
        colour = values[..., 0] if layout == "LA;16B" else values[..., :3] if layout == "RGBA;16B" else values
        if layout in ("LA;16B", "RGBA;16B"):
            return Band(colour, values[..., -1])
        if key is None:
            return Band(colour, None)
        opaque = colour != np.asarray(key)
        return Band(colour, (opaque if grey else opaque.any(axis=-1)).astype(np.uint16) * 65535)

    stored = Stored(image.width, image.height, "L" if grey else "RGB", True, band, notes=frames_note(image))
    return with_metadata(image, stored)


def _pixels(
    file: BinaryIO, image: ImageFile.ImageFile, layout: str, check: CheckSize
) -> Callable[[int, int], np.ndarray]:
    """Load the 16-bit samples of a PNG: a function from y0, y1 to (n, W[, C]) uint16."""
    width = image.width
    if layout == "I;16B":
        image.load()
        return lambda y0, y1: np.asarray(image.crop((0, y0, width, y1))).astype(np.uint16, copy=False)
    if (
        layout == "LA;16B"
    ):  # two 16-bit samples are as long as four of 8 bits: the bytes come through as they are
        load_as(image, "RGBA")
        return lambda y0, y1: np.asarray(image.crop((0, y0, width, y1))).view(">u2").astype(np.uint16)
    second = open_pillow(PngImagePlugin.PngImageFile, file, check)
    return TwoHalves(load_as(image, layout), load_as(second, layout.replace("16B", "16L"))).rows


def _check_chunks(file: BinaryIO) -> None:
    """Raise ValueError unless the PNG is whole. Pillow would turn a damaged IDAT into noise."""
    file.seek(8)
    name = b""
    while name != b"IEND":
        header = file.read(8)
        if len(header) < 8:
            raise ValueError("it ends before its last chunk")
        left, name = int.from_bytes(header[:4], "big"), header[4:]
        crc = zlib.crc32(name)
        while left:
            piece = file.read(min(left, 1 << 20))
            if not piece:
                raise ValueError(f"it ends inside its {name.decode('latin-1')} chunk")
            crc, left = zlib.crc32(piece, crc), left - len(piece)
        stored_crc = file.read(4)
        if name[:1].isupper() and stored_crc != crc.to_bytes(
            4, "big"
        ):  # capital: a chunk the pixels depend on
            raise ValueError(f"checksum error in its {name.decode('latin-1')} chunk")
