"""8-bit pictures of depth maps: grey PNG, JPEG and WebP, and grey stored as colour. 256 steps, no unit.

Only maps that are to be refined are read so: whatever else takes depth files refuses them.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from prv2cli.depth_files.formats.checks import MAX_PIXELS
from prv2cli.errors import InputError
from prv2cli.files.pictures.orientation import orientation_of, turn
from prv2cli.files.text import first_line

GREY_TOLERANCE = 12  # levels between the channels of a grey picture: JPEG and WebP store colour coarsely
_HALF = 0.5
_DEPTH = 24  # where a PNG says its bits per channel
_OF_A_BLOCK = 8  # a JPEG's first quantisation step is of eight times a block's mean
_LOSSY_WEBP = 1.5  # half a step: its quality cannot be read
_OPENERS: dict[str, Any] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}


class Picture(NamedTuple):
    """levels: (H, W) uint8, upright. half_step: how far one may be from what was stored.

    holes: (H, W) bool, where the picture is transparent; None if nowhere.
    """

    levels: np.ndarray
    half_step: float
    holes: np.ndarray | None = None


def picture_kind(head: bytes) -> str | None:
    """png, jpeg or webp by a file's first 12 bytes; None for anything else."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8"):
        return "jpeg"
    return "webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def open_picture(kind: str, data: bytes) -> Any:
    """A picture of picture_kind()'s kinds, opened by Pillow; its pixels are not decoded yet."""
    return _OPENERS[kind](io.BytesIO(data))


def read_picture(file: BinaryIO) -> Picture | None:
    """The grey levels of an 8-bit picture in a seekable file; None where it is none (a 16-bit PNG, say).

    Raises:
        InputError: a coloured picture, as nothing tells which colour is near; one that is damaged, or too large.
    """
    kind = picture_kind(file.read(12))
    file.seek(0)
    if kind is None:
        return None
    data = file.read()
    file.seek(0)
    # Of 16 bits with alpha, and of colours, Pillow would keep 8.
    if kind == "png" and data[_DEPTH : _DEPTH + 1] == b"\x10":
        return None
    try:
        return _read(kind, data)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError("not enough memory to read it") from error
    except Exception as error:  # the decoders meet arbitrary bytes: no list of exceptions would be complete
        raise InputError(f"damaged or cut short ({first_line(error)[:120]})") from error


def _read(kind: str, data: bytes) -> Picture | None:
    image = open_picture(kind, data)
    if image.mode not in ("L", "LA", "P", "RGB", "RGBA", "1", "YCbCr"):
        return None
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"{image.width} x {image.height} is more than the {MAX_PIXELS} pixels that prv2 reads"
        )
    half, orientation, holes = _half_step(image, kind), orientation_of(image), _transparent(image)
    return Picture(turn(_grey(image), orientation), half, None if holes is None else turn(holes, orientation))


def _transparent(image: Any) -> np.ndarray | None:
    """(H, W) bool; None where all is opaque."""
    if not image.has_transparency_data:
        return None
    holes = np.asarray(image.convert("RGBA"))[..., 3] == 0
    return holes if holes.any() else None


def _half_step(image: Any, kind: str) -> float:
    if kind == "webp":
        return _LOSSY_WEBP
    if kind == "jpeg":
        first = min(table[0] for table in image.quantization.values())
        return _HALF + first / _OF_A_BLOCK
    return _HALF


def _grey(image: Any) -> np.ndarray:
    if image.mode == "L":
        return np.asarray(image)
    channels = np.asarray(image.convert("RGB"))
    spread = channels.max(axis=2).astype(np.int16) - channels.min(axis=2)
    if np.percentile(spread, 99) > GREY_TOLERANCE:
        raise InputError(
            "a coloured picture, and nothing tells which colour is near; save the map in grey (or as numbers)"
        )
    return channels[..., 1] if not spread.any() else np.asarray(image.convert("L"))
