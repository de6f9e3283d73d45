"""A progressive JPEG decoded onto disk, as it does not come in bands: its every scan goes over the whole picture.

    file -> libjpeg: all coefficients, in memory -> rows of pixels -> Pillow's picture, which lies in a mapped file

libjpeg keeps 2 to 6 bytes of coefficients a pixel, and has no way to put them elsewhere. Pillow's picture takes 4 more.
As a mapped file without a name these are the system's to write out, and are let go as the rows come.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, JpegImagePlugin

from prv2cli.files.atomic import output_error
from prv2cli.files.disk_array import check_scratch_space
from prv2cli.photo.formats.jpeg.decode import NoEndError, checked
from prv2cli.photo.formats.jpeg.repair import ENDED, ended_properly
from prv2cli.photo.formats.pillow import open_pillow
from prv2cli.photo.stored import CheckSize, Stored

SECONDS = 0.05  # between two times that pages are let go
# Space must be reserved, as a full disk would end a program that writes to mapped memory; and pages be let go: Linux.
POSSIBLE = hasattr(os, "posix_fallocate") and hasattr(mmap, "MADV_DONTNEED")


@contextmanager
def decode_jpeg(file: BinaryIO, check: CheckSize, folder: Path) -> Iterator[Stored]:
    """As decode.decode, with the same values; the pixels of a progressive one lie in `folder` where possible.

    Raises what decode raises, and DiskFullError and OutputError.
    """
    with ExitStack() as stack:
        try:
            stored = _decoded(file, check, folder, stack, ())
        except NoEndError:
            ended = ended_properly(file)
            if ended is None:
                raise
            stored = _decoded(ended, check, folder, stack, (ENDED,))
        yield stored


def _decoded(
    file: BinaryIO, check: CheckSize, folder: Path, stack: ExitStack, notes: tuple[str, ...]
) -> Stored:
    image: Any = open_pillow(JpegImagePlugin.JpegImageFile, file, check)
    # Without a tile the file ends in its header: Pillow says so only while it has no picture.
    if POSSIBLE and image.info.get("progressive") and image.tile:
        pixels = _mapped_file(image.width * image.height * (1 if image.mode == "L" else 4), folder)
        image.im = Image.core.map_buffer(pixels, image.size, "raw", 0, (image.mode, 0, 1))
        stack.enter_context(_little_resident(pixels))
    return checked(file, image, notes)


def _mapped_file(size: int, folder: Path) -> mmap.mmap:
    check_scratch_space(folder, size)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise output_error(folder, error) from error


@contextmanager
def _little_resident(pixels: mmap.mmap) -> Iterator[None]:
    """Let go of the pages again and again; what was written to them stays in the file."""
    done = threading.Event()

    def let_go() -> None:
        while not done.wait(SECONDS):
            pixels.madvise(mmap.MADV_DONTNEED)

    thread = threading.Thread(target=let_go, name="jpeg pages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
