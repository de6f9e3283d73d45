"""The XMP packets in a HEIF file, which libheif does not give for auxiliary pictures. No pixel is decoded.

meta ─ iinf: which items are XMP ─┐
     └ iloc: where each item lies ┴─> packets
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_XMP_TYPE = b"application/rdf+xml"
_MAX_PACKET = 1 << 20
_MAX_ITEMS = 64
_INTEGERS = {0: "", 2: "H", 4: "I", 8: "Q"}  # by their bytes


class _Box(NamedTuple):
    kind: bytes
    start: int  # of what is in it
    end: int


def xmp_packets(data: bytes) -> list[bytes]:
    """All XMP packets of a HEIF file, in no particular order; of a damaged file those that can be read."""
    try:
        meta = next((box for box in _boxes(data, 0, len(data)) if box.kind == b"meta"), None)
        if meta is None:
            return []
        inside = {box.kind: box for box in _boxes(data, meta.start + 4, meta.end)}
        wanted = set(_xmp_items(data, inside[b"iinf"]))
        idat = inside.get(b"idat")
        places = _places(data, inside[b"iloc"], wanted, idat.start if idat else len(data))
        return [data[start : start + length] for start, length in places if length <= _MAX_PACKET]
    except (KeyError, struct.error):
        return []


def _boxes(data: bytes, at: int, end: int) -> Iterator[_Box]:
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if size == 0 else at + size
        if not start <= stop <= end:
            return
        yield _Box(kind, start, stop)
        at = stop


def _xmp_items(data: bytes, iinf: _Box) -> Iterator[int]:
    """The numbers of the items of XMP, a few at most."""
    version = data[iinf.start]
    found = 0
    for box in _boxes(data, iinf.start + (6 if version == 0 else 8), iinf.end):
        version = data[box.start] if box.kind == b"infe" else 0
        if version in (2, 3):
            number, rest = ("H", 8) if version == 2 else ("I", 10)
            (item,) = struct.unpack_from(">" + number, data, box.start + 4)
            if data[box.start + rest : box.start + rest + 4] == b"mime" and found < _MAX_ITEMS:
                texts = data[box.start + rest + 4 : min(box.end, box.start + 1024)].split(b"\0")
                if _XMP_TYPE in texts[:2]:
                    found += 1
                    yield item


def _places(data: bytes, iloc: _Box, wanted: set[int], idat: int) -> Iterator[tuple[int, int]]:
    """Start and length of those items that lie in one piece."""
    version = data[iloc.start]
    sizes, others = data[iloc.start + 4], data[iloc.start + 5]
    offset, length, base = (_INTEGERS[size] for size in (sizes >> 4, sizes & 15, others >> 4))
    index = _INTEGERS[others & 15] if version else ""
    number = "I" if version == 2 else "H"
    (count,) = struct.unpack_from(">" + number, data, iloc.start + 6)
    at = iloc.start + 6 + struct.calcsize(">" + number)
    head = struct.Struct(">" + number + ("H" if version else "") + "H" + base + "H")
    extent = struct.Struct(">" + index + offset + length)
    for _ in range(min(count, (iloc.end - at) // head.size)):
        fields = list(head.unpack_from(data, at))
        at += head.size
        extents = fields.pop()
        if fields[0] in wanted and extents == 1 and offset and length:
            start, size = extent.unpack_from(data, at)[-2:]
            method = fields[1] & 15 if version else 0
            yield start + (fields[-1] if base else 0) + (idat if method == 1 else 0), size
        at += extents * extent.size
