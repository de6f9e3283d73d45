"""JPEG: strict about its rows, not about its markers."""

from __future__ import annotations

from typing import Any, BinaryIO

from PIL import JpegImagePlugin

from prv2cli.photo.formats.jpeg.repair import ENDED, ended_properly, has_end, lacks_rows, restarts_note
from prv2cli.photo.formats.pillow import from_pillow, open_pillow
from prv2cli.photo.stored import CheckSize, Stored


def decode_jpeg(file: BinaryIO, check: CheckSize) -> Stored:
    """See decode.decode."""
    image = open_pillow(JpegImagePlugin.JpegImageFile, file, check)
    try:
        return checked(file, image)
    except NoEndError:
        ended = ended_properly(file)
        if ended is None:
            raise
        return checked(ended, open_pillow(JpegImagePlugin.JpegImageFile, ended, check), (ENDED,))


class NoEndError(OSError):
    """The coded data of a JPEG do not end as they should. Rows may be missing or not."""


def checked(file: BinaryIO, image: Any, notes: tuple[str, ...] = ()) -> Stored:
    """Decode an opened JPEG. Raises NoEndError, and ValueError where rows are missing though it has an end."""
    try:
        stored = from_pillow(image, (*notes, *restarts_note(file)))
    except OSError as error:
        raise NoEndError(str(error)) from error
    if not has_end(file):
        raise NoEndError("it ends before its end marker")
    if lacks_rows(file, image):
        raise ValueError("rows at its end are missing")
    return stored
