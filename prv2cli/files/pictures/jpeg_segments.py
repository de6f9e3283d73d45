"""The pieces of a JPEG: markers with what belongs to them, and where the picture ends. No pixel is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

END, SCAN = 0xD9, 0xDA
# What may come between scans: tables, restart interval, line count, application data, comments.
_BETWEEN = frozenset((0xC4, 0xDB, 0xDD, 0xDC, *range(0xE0, 0xF0), 0xFE, SCAN))
_STANDALONE = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # a marker in coded data that is no restart


class Segment(NamedTuple):
    """A marker with what belongs to it: from `start` to `end`; of a scan, with its coded data."""

    marker: int
    start: int
    body: bytes  # behind the length
    end: int


def jpeg_segments(data: bytes) -> Iterator[Segment]:
    """From the start of the picture to its end, or to the first thing that is none of its own."""
    at, scanned = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == END or (scanned and marker not in _BETWEEN):
            return
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + size
        if size < 2 or end > len(data):
            return
        body = data[at + 4 : end]
        if marker == SCAN:
            scanned = True
            end = _end_of_coded(data, end)
        yield Segment(marker, at, body, end)
        at = end


def end_of_picture(found: list[Segment], data: bytes) -> int | None:
    """Where the end marker of a JPEG of these segments ends; None where there is none."""
    at = found[-1].end if found else 2
    while data[at : at + 2] == b"\xff\xff":  # filling
        at += 1
    return at + 2 if data[at : at + 2] == bytes((0xFF, END)) else None


def _end_of_coded(data: bytes, start: int) -> int:
    found = _STANDALONE.search(data, start)
    if found is not None:
        return found.start()
    return len(data) - 1 if data.endswith(b"\xff") else len(data)  # half a marker
