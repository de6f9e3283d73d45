"""Which page of a TIFF is its picture: not a reduced copy, not a mask; in a sub-directory too.

TiffFile -> full_pages, mask_pages (of tifffile) -> starting_at: the same file, as if that page were its first
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

MOST_PAGES = 64  # that are looked at
SUB_DIRECTORIES = 330  # the tag


def full_pages(tiff: Any) -> list[Any]:
    """The pages that are pictures of their own, those in the file's chain before those in sub-directories.

    tiff: an open tifffile.TiffFile. Without any the first page, whatever it calls itself.
    """
    own = [page for page in _looked_at(tiff) if not _is_copy(page)]
    if own:
        return own
    below = [page for page in _sub_pages(tiff) if not _is_copy(page)]
    return below or [tiff.pages.first]


def mask_pages(tiff: Any) -> list[Any]:
    """The pages that say which pixels of another one count (NewSubfileType 4), reduced copies of them left out."""
    return [page for page in _looked_at(tiff) if page.is_mask and not page.is_reduced]


def starting_at(file: BinaryIO, page: Any) -> BinaryIO:
    """The TIFF in `file` with a page of it as the first one; `file` itself where it is."""
    first = page.parent.pages.first
    if page.offset == first.offset:
        return file
    big = page.parent.is_bigtiff
    order = "little" if page.parent.byteorder == "<" else "big"
    place = page.offset.to_bytes(8 if big else 4, order)
    at = 8 if big else 4
    file.seek(0)
    head = file.read(at) + place
    return io.BufferedReader(_WithHead(file, head))


class _WithHead(io.RawIOBase):
    """A file of which the first bytes are others. The file itself stays open when this one is closed."""

    def __init__(self, file: BinaryIO, head: bytes) -> None:
        self._file, self._head, self._at = file, head, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = place + (self._file.seek(0, io.SEEK_END) if start is None else start)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._at)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        ours = self._head[self._at : self._at + len(data)]
        buffer[: len(ours)] = ours
        self._at += len(data)
        return len(data)


def _looked_at(tiff: Any) -> list[Any]:
    return list(islice(tiff.pages, MOST_PAGES))


def _is_copy(page: Any) -> bool:
    return bool(page.is_reduced or page.is_mask)


def _sub_pages(tiff: Any) -> Iterator[Any]:
    for page in _looked_at(tiff):
        yield from _below(page)


def _below(page: Any) -> list[Any]:
    if SUB_DIRECTORIES not in page.tags:
        return []
    return list(islice(page.pages or (), MOST_PAGES))
