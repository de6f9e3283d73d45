"""16-bit grey PNG, also stored as colour. The metadata is a tEXt chunk "prv2"."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from prv2cli.depth_files.formats.checks import COLOUR, MAX_RATIO, Decoded, check_pillow, size_of
from prv2cli.depth_files.formats.rows import INTEGER_LEVEL, Rows
from prv2cli.errors import InputError
from prv2cli.files.pictures.orientation import orientation_of, turn
from prv2cli.files.pictures.png_chunks import sound_png
from prv2cli.files.pictures.two_halves import TwoHalves, load_as

PNG_KEY = "prv2"
_GREY_AND_ALPHA = "LA;16B"
_COLOURS = ("RGB;16B", "RGBA;16B")
_BAND = 256  # rows
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(file: BinaryIO, rows: Rows, text: str) -> None:
    """16-bit grey PNG."""
    write_png(file, rows.shape, rows, (PNG_KEY, text))


def write_png(
    file: BinaryIO, size: tuple[int, int], bands: Iterable[np.ndarray], text: tuple[str, str]
) -> None:
    """A 16-bit PNG; every line holds its difference to the line above (filter "up").

    Args:
        size: rows, columns. bands: (n, columns) uint16 of grey, or (n, columns, 3) of colours, from the top.
        text: a key and what it says, in ASCII.
    """
    height, width = size
    deflate = zlib.compressobj(INTEGER_LEVEL)
    above = None
    file.write(PNG_SIGNATURE)
    for band in bands:
        samples = 1 if band.ndim == 2 else band.shape[2]
        if above is None:
            colour_type = 0 if samples == 1 else 2
            _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
            _chunk(file, b"tEXt", text[0].encode() + b"\0" + text[1].encode("ascii"))
            above = np.zeros((1, 2 * samples * width), np.uint8)
        line = band.reshape(len(band), -1).astype(">u2").view(np.uint8)  # (rows, 2 samples W)
        filtered = np.full((len(line), 1 + line.shape[1]), 2, np.uint8)  # byte 0 of a line: its filter
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
    """16-bit grey, upright. Opened by class, as Image.open would try every format and has a smaller size limit.

    A clear grey (GDAL writes no-data values so) and clear pixels are holes. Three equal colours (Blender's and
    compositors' usual PNG) are grey.
    """
    from PIL.PngImagePlugin import PngImageFile

    check_pillow(_opened(file), size_of(file) * MAX_RATIO)
    file.seek(0)
    sound, notes = sound_png(file)  # the checksums, which load() does not look at
    image = PngImageFile(sound)
    layout = _layout(image)
    if layout == _GREY_AND_ALPHA:
        # Two samples of 16 bits are as long as four of 8: the bytes come through as they are.
        image._mode = "RGBA"
        both = np.asarray(load_as(image, "RGBA")).view(">u2")
        numbers, holes = both[..., 0], both[..., 1] == 0
    elif layout in _COLOURS:
        sound.seek(0)
        numbers, holes = _grey_of(TwoHalves.of(image, PngImageFile(sound), str(layout)))
    else:
        image.load()
        numbers, holes = np.asarray(image), np.zeros((0, 0), bool)
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and len(set(clear)) == 1:
        clear = clear[0]
    if isinstance(clear, int):
        holes = numbers == clear
    text = image.info.get(PNG_KEY)
    orientation = orientation_of(image)
    upright = turn(holes, orientation) if holes.any() else None
    return Decoded(turn(numbers, orientation), text, upright, notes)


def _opened(file: BinaryIO) -> Any:
    """An opened picture, not loaded; of 16 bits one of grey, whatever is stored beside it."""
    from PIL.PngImagePlugin import PngImageFile

    image = PngImageFile(file)
    if _layout(image) in (_GREY_AND_ALPHA, *_COLOURS):
        image._mode = "I;16"
    return image


def _layout(image: Any) -> object:
    """How the pixels of an opened picture lie in its file, in Pillow's terms."""
    return image.tile[0][3] if image.tile else None


def _grey_of(halves: TwoHalves) -> tuple[np.ndarray, np.ndarray]:
    """The numbers (H, W) of a grey picture that is stored as colour, and where it is clear. Raises InputError."""
    width, height = halves.high.size
    numbers, holes = np.empty((height, width), np.uint16), np.zeros((height, width), bool)
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))
        pixels = halves.rows(rows.start, rows.stop)
        if (pixels[..., 1:3] != pixels[..., :1]).any():
            raise InputError(COLOUR)
        numbers[rows] = pixels[..., 0]
        if pixels.shape[-1] == 4:
            holes[rows] = pixels[..., 3] == 0
    return numbers, holes


def read_png_text(file: BinaryIO) -> str | None:
    """The text of the metadata, from the header alone."""
    from PIL.PngImagePlugin import PngImageFile

    return PngImageFile(file).info.get(PNG_KEY)
