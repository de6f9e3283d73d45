"""From a path or a stream to a seekable file of a known kind; every failure on the way is one Prv2Error.

opened(source, label) ─ file ─ kind_of(file, label) ─ a decoder, within readable(label)
"""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from prv2cli.errors import InputError, Prv2Error, UsageError
from prv2cli.extras import import_pillow_heif
from prv2cli.files import once
from prv2cli.files.text import shown
from prv2cli.photo.formats.quiet_pillow import quiet_pillow
from prv2cli.photo.kinds import HEAD_BYTES, Unreadable, identify
from prv2cli.photo.stored import CheckSize

# Without any handler Python prints tifffile's remarks on odd files to stderr; a program's own still work.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

MAX_PIXELS_DEFAULT = 700_000_000  # a 30,000 x 20,000 photograph passes


def label_of(source: Path | BinaryIO) -> str:
    """What messages call a photograph: the path, or the stream's own name."""
    if isinstance(source, (str, os.PathLike)):
        return shown(source)
    own = getattr(source, "name", None)
    return shown(own) if isinstance(own, str) else "<stream>"


@contextmanager
def opened(source: Path | BinaryIO, label: str) -> Iterator[BinaryIO]:
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


def read_once(path: Path) -> Path | BinaryIO:
    """files.once.read_once of a photograph: an endless pipe of something else is not waited for.

    Raises what read.read_photo raises for a path that cannot be opened.
    """
    return once.read_once(path, _all_of)


def _all_of(path: Path) -> bytes:
    with opened(path, label_of(path)) as file:
        return file.read()


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
        raise InputError(f"{label}: no permission to read it. {_permission_fix(path, label)}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{label}: cannot be opened ({reason}). Check the path") from error


def _permission_fix(path: Path, label: str) -> str:
    """What to try: the file may be readable, and a folder on the way to it closed."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.EACCES:
            return f"Its folder {shown(path.parent)} may not be looked into either: chmod u+x on it may help"
    return f"Try: chmod u+r {label}"


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


@contextmanager
def readable(label: str) -> Iterator[None]:
    """Make one InputError that names the file of whatever a decoder raises, with Pillow's own limits off."""
    try:
        with quiet_pillow():
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
        import_pillow_heif(label)
    file.seek(0)
    return kind


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:.1f}" if pixels >= 100_000 else f"{pixels / 1e6:.6g}"
