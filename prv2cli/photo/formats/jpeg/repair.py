"""JPEGs whose rows are all there although their end is not: told from those that lack rows.

    file that Pillow refuses -> its markers -> cut behind the last scan, ended properly -> decoded as any other

What libjpeg makes of missing data it does not say: grey, or the last colour. But then the picture depends on what comes
behind the data. So such a file is decoded with two different ends: where both give the same, all rows are there.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any, BinaryIO

import numpy as np
from PIL import JpegImagePlugin

from prv2cli.files.pictures.jpeg_segments import END, SCAN, Segment, jpeg_segments

_PROGRESSIVE = frozenset((0xC2, 0xCA))
_RESTART = re.compile(rb"\xff([\xd0-\xd7])", re.DOTALL)
_EOI = bytes((0xFF, END))
_RESTART_INTERVAL, _HEADER = b"\xff\xdd\x00\x04", 1 << 20  # and where it stands
_ROWS = 256
_MANY_ZEROS = 16
_GREY = 128  # what libjpeg puts where no data came
_FILLING = 4096  # bytes of other ends: more than any decoder looks ahead
ENDED = "its end marker is missing or damaged: every row is there and was read"
RESTARTS = "its restart markers are out of order: read as far as the decoder could follow them"


def ended_properly(file: BinaryIO) -> BinaryIO | None:
    """The JPEG in `file` with a proper end, where all its rows are there; None where they are not."""
    data = _data(file)
    segments = list(jpeg_segments(data))
    if not segments or not _all_scans(segments):
        return None
    whole = _without_filling(data[: segments[-1].end])
    return io.BytesIO(whole + _EOI) if _same_with_any_end(whole) else None


def _without_filling(data: bytes) -> bytes:
    """Without the zeros at the end of a download that reserved its space; a few zeros may be coded data."""
    coded = data.rstrip(b"\0")
    return data if len(data) - len(coded) < _MANY_ZEROS else coded + bytes(2)


def lacks_rows(file: BinaryIO, image: Any) -> bool:
    """Whether a decoded JPEG with a proper end was filled up: its last corner is the grey of nothing, and no data's."""
    corner = np.asarray(image.crop((max(0, image.width - 8), max(0, image.height - 8), *image.size)))
    if image.mode not in ("L", "RGB") or not (corner == _GREY).all():
        return False
    data = _data(file)
    segments = list(jpeg_segments(data))
    return bool(segments) and not _same_with_any_end(data[: segments[-1].end])


def has_end(file: BinaryIO) -> bool:
    """Whether a JPEG's coded data end in its end marker; other things may follow. Most files end in it themselves."""
    file.seek(-2, io.SEEK_END)
    if file.read() == _EOI:
        return True
    data = _data(file)
    segments = list(jpeg_segments(data))
    return bool(segments) and data[segments[-1].end :].lstrip(b"\xff").startswith(_EOI[1:])


def _data(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _same_with_any_end(whole: bytes) -> bool:
    """Whether coded data without an end marker give the same picture whatever comes behind them: 0s, 1s, nothing."""
    try:
        first = _fingerprint(whole + _EOI)
        return all(_fingerprint(whole + bytes([byte]) * _FILLING + _EOI) == first for byte in (0x01, 0xFE))
    except (OSError, ValueError, SyntaxError):
        return False


def restarts_note(file: BinaryIO) -> tuple[str, ...]:
    """What a person should know where restart markers are missing or doubled."""
    file.seek(0)
    if _RESTART_INTERVAL not in file.read(_HEADER):
        return ()
    data = _data(file)
    for segment in jpeg_segments(data):
        if segment.marker == SCAN:
            kinds = [found[0] - 0xD0 for found in _RESTART.findall(data, segment.start, segment.end)]
            if kinds != [index % 8 for index in range(len(kinds))]:
                return (RESTARTS,)
    return ()


def _fingerprint(data: bytes) -> bytes:
    """Of the pixels of a JPEG: no two pictures lie in memory at a time."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    image.load()
    digest = hashlib.sha256()
    for y in range(0, image.height, _ROWS):
        digest.update(image.crop((0, y, image.width, min(y + _ROWS, image.height))).tobytes())
    return digest.digest()


def _all_scans(segments: list[Segment]) -> bool:
    """Whether a progressive JPEG's scans give all its coefficients with all bits; others have one of each component."""
    frames = (segment for segment in segments if 0xC0 <= segment.marker <= 0xCF and segment.marker != 0xC4)
    frame = next(frames, None)
    if frame is None or len(frame.body) < 6:
        return False
    components = frame.body[6 : 6 + 3 * frame.body[5] : 3]
    lowest: dict[tuple[int, int], int] = {}  # component, coefficient -> the last bit that came
    for segment in segments:
        if segment.marker == SCAN and segment.body:
            count = segment.body[0]
            if len(segment.body) < 4 + 2 * count:
                return False
            first, last, bits = segment.body[1 + 2 * count : 4 + 2 * count]
            wanted = range(first, min(last, 63) + 1) if frame.marker in _PROGRESSIVE else range(64)
            for component in segment.body[1 : 1 + 2 * count : 2]:
                lowest |= {(component, index): bits & 15 for index in wanted}
    return all(lowest.get((component, index)) == 0 for component in components for index in range(64))
