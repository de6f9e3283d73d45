"""Read one photograph: any common format to upright sRGB pixels with nothing truncated. No torch.

    file or pipe -> identify (image_kinds) -> decode (image_decode, image_tiff) -> Stored
                 -> colours (image_colour), alpha over white, upright: band by band -> Photo

Every failure is one Prv2Error that names the file and the fix. Bands keep the memory at one decoded picture
plus the result, whatever has to be done to the pixels.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from prv2cli.errors import InputError, MissingExtraError, Prv2Error, UsageError
from prv2cli.files.text import shown
from prv2cli.photo.colour import ToSrgb, plan_srgb, to_8_bits
from prv2cli.photo.focal import focal_px
from prv2cli.photo.kinds import HEAD_BYTES, Unreadable, identify
from prv2cli.photo.pillow import CheckSize, Stored, decode

MAX_PIXELS_DEFAULT = 700_000_000  # a 30,000 x 20,000 photograph passes
_BAND_PIXELS = 1 << 20
_HASH_BYTES = 1 << 20

# Without any handler Python prints tifffile's remarks on odd files to stderr; a program's own still work.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph ready for a model, and what is known about it."""

    rgb: np.ndarray  # (H, W, 3) uint8, or uint16 where the source has more than 8 bits; sRGB, upright
    focal_px: float | None  # focal length in pixels from EXIF
    notes: tuple[str, ...]  # what the reader had to do that a person should know
    sha256: str  # of the input bytes
    name: str  # as messages call it


def read_photo(
    source: Path | BinaryIO, *, max_pixels: int = MAX_PIXELS_DEFAULT, name: str | None = None
) -> Photo:
    """Read the photograph in a file or in a binary stream (a pipe will do), from where the stream stands.

    `name` is what messages call it; by default the path, or the stream's own name. More than `max_pixels`
    pixels are refused from the header, before anything is decoded.

    Raises UsageError for a folder, MissingExtraError for HEIC without pillow-heif, and InputError for
    everything that is not a whole, readable photograph.
    """
    label = name or _label(source)
    with _opened(source, label) as file, readable(label):
        return _read(file, label, max_pixels)


@contextmanager
def readable(label: str) -> Iterator[None]:
    """Make one InputError that names the file of whatever a decoder raises, with Pillow's own limits off."""
    try:
        with _quiet_pillow():
            yield
    except Prv2Error:
        raise
    except MemoryError as error:
        raise InputError(
            f"{label}: not enough memory to decode this picture. Close other programs or make it smaller"
        ) from error
    except Unreadable as error:
        raise InputError(f"{label}: {error}") from error
    except Exception as error:  # decoders raise dozens of kinds for bytes that break their format's rules
        detail = str(error).partition("\n")[0][:120] or type(error).__name__
        raise InputError(
            f"{label}: damaged or cut short ({detail}). "
            "Copy or download it again, or re-save it in an image editor"
        ) from error


def size_check(max_pixels: int) -> CheckSize:
    """What refuses a picture of a size that is impossible, or larger than `max_pixels`, with Unreadable."""

    def check(width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise Unreadable(f"it has no pixels ({width} x {height}). Export the picture again")
        if width * height > max_pixels:
            raise Unreadable(
                f"{width} x {height} is {_megapixels(width * height)} megapixels, over the limit of "
                f"{_megapixels(max_pixels)}. If you trust the file, use --max-pixels {width * height}"
            )

    return check


def kind_of(file: BinaryIO, label: str) -> str:
    """What identify() says of a file that stands at its start. Raises Unreadable, MissingExtraError."""
    head = file.read(HEAD_BYTES)
    if not head:
        raise Unreadable("it is empty (0 bytes). Copy or download it again")
    kind = identify(head, label)
    if kind == "HEIC":
        _require_heif(label)
    file.seek(0)
    return kind


def _read(file: BinaryIO, label: str, max_pixels: int) -> Photo:
    """Read from an open seekable file; anything may be raised for bad bytes."""
    stored = decode(kind_of(file, label), file, size_check(max_pixels))
    plan = plan_srgb(stored.icc, stored.model, stored.deep)
    rgb, composited = _assemble(stored, plan)
    return photo_of(rgb, stored, plan, file, label, composited=composited)


def photo_of(
    rgb: np.ndarray, stored: Stored, plan: ToSrgb, file: BinaryIO, label: str, *, composited: bool
) -> Photo:
    """The upright sRGB pixels with what the file says of them."""
    notes = (*stored.notes, *plan.notes, *(["alpha channel composited on white"] if composited else []))
    focal = focal_px(stored.exif or {}, stored.width, stored.height)
    return Photo(rgb, focal, notes, _sha256(file), label)


def _require_heif(label: str) -> None:
    try:
        importlib.import_module("pillow_heif")
    except ImportError as error:
        raise MissingExtraError(f"Reading HEIC photographs ({label})", "heif") from error


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:.1f}" if pixels >= 100_000 else f"{pixels / 1e6:.6g}"


# --- Opening -----------------------------------------------------------------------------------------------


def _label(source: Path | BinaryIO) -> str:
    if isinstance(source, (str, os.PathLike)):
        return shown(source)
    own = getattr(source, "name", None)
    return shown(own) if isinstance(own, str) else "<stream>"


@contextmanager
def _opened(source: Path | BinaryIO, label: str) -> Iterator[BinaryIO]:
    """A seekable binary file that starts where `source` stands. Streams are left open."""
    with (
        _open_path(Path(source), label)
        if isinstance(source, (str, os.PathLike))
        else nullcontext(source) as stream
    ):
        try:
            file = _seekable(stream)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{label}: cannot be read ({error}). Check the source and try again") from error
        yield file


def _open_path(path: Path, label: str) -> BinaryIO:
    try:
        if path.is_dir():
            raise UsageError(
                f"{label}: this is a folder. For all the photographs in it use: prv2 batch {label}"
            )
        return path.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"{label}: no such file. Check the path and its spelling") from error
    except PermissionError as error:
        raise InputError(f"{label}: no permission to read it. Try: chmod u+r {label}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{label}: cannot be opened ({reason}). Check the path") from error


def _seekable(stream: BinaryIO) -> BinaryIO:
    """The stream itself where decoders can use it, else a copy of what is left in it."""
    if stream.seekable() and stream.tell() == 0:
        return stream
    head = stream.read(HEAD_BYTES)  # no use waiting for the whole of an endless pipe of something else
    rest = stream.read() if _may_be_photo(head) else b""
    return io.BytesIO(head + rest)


def _may_be_photo(head: bytes) -> bool:
    try:
        identify(head, "")
    except Unreadable:
        return len(head) < 16  # a pipe may give a few bytes at first
    return True


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_HASH_BYTES):
        digest.update(piece)
    return digest.hexdigest()


# --- Pillow's global state ---------------------------------------------------------------------------------


class _QuietPillow:
    """Count the reads in progress; while there are any, Pillow's own limit, warnings and leniency are off.

    These are globals of the process. Several threads that each saved and restored them would do so in the
    wrong order, so the first read saves them and the last one restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._saved: tuple[Any, Any] = (None, None)
        self._warnings = warnings.catch_warnings()

    def begin(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._saved = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
                Image.MAX_IMAGE_PIXELS = None  # `max_pixels` is checked instead
                ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have set it: silent grey areas
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")
            self._readers += 1

    def end(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self._saved
                self._warnings.__exit__(None, None, None)


_QUIET = _QuietPillow()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    _QUIET.begin()
    try:
        yield
    finally:
        _QUIET.end()


# --- Pixels ------------------------------------------------------------------------------------------------


def _assemble(stored: Stored, plan: ToSrgb) -> tuple[np.ndarray, bool]:
    """Bring all bands to upright sRGB: (H, W, 3) uint8 or uint16, and whether any pixel was transparent."""
    if stored.whole is not None and stored.orientation == 1 and plan.unchanged:
        return stored.whole, False
    turned = stored.orientation >= 5
    shape = (stored.width, stored.height, 3) if turned else (stored.height, stored.width, 3)
    rgb = np.empty(shape, np.uint16 if plan.deep else np.uint8)
    as_stored = _turn(rgb, {6: 8, 8: 6}.get(stored.orientation, stored.orientation))
    composited = False
    step = max(1, _BAND_PIXELS // stored.width)
    for y in range(0, stored.height, step):
        band = stored.band(y, min(y + step, stored.height))
        colour = plan.convert(band.colour)
        if band.alpha is not None:
            alpha = to_8_bits(band.alpha) if stored.deep and not plan.deep else band.alpha
            colour, seen = _over_white(colour, alpha)
            composited |= seen
        as_stored[y : y + step] = colour
    return rgb, composited


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A view of `pixels` (H, W, 3) turned upright from an EXIF orientation 1..8."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation >= 5 else pixels


def _over_white(colour: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, bool]:
    """Colours (n, W, 3) over white by their alpha (n, W) of the same type; False if all are opaque."""
    top = np.uint32(np.iinfo(colour.dtype).max)
    if alpha.min() == top:
        return colour, False
    weight = alpha.astype(np.uint32)[..., None]
    mixed = colour.astype(np.uint32) * weight + top * (top - weight) + top // 2  # below 2**32 at 16 bits too
    return (mixed // top).astype(colour.dtype), True
