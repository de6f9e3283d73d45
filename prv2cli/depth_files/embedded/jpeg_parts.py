"""What a JPEG carries beside its pixels: XMP in pieces, the orientation, further pictures behind the first.

XMP        APP1; what does not fit into 64 KB goes on in an extension, cut into pieces with their places
MPF        APP2: a list of pictures in the same file (CIPA DC-007)
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import cached_property
from xml.etree import ElementTree

from PIL.JpegImagePlugin import JpegImageFile

from prv2cli.depth_files.embedded.xmp import MAX_BYTES, merged, parse_packet
from prv2cli.errors import InputError
from prv2cli.files.pictures.jpeg_segments import end_of_picture, jpeg_segments
from prv2cli.files.pictures.orientation import orientation_of

_APP1, _APP2 = 0xE1, 0xE2
_XMP, _EXTENDED = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_NOTE = "http://ns.adobe.com/xmp/note/"
_GUID = 32  # characters
_MPF = b"MPF\0"
_MP_ENTRIES = 0xB002
_MP_ENTRY = 16
_MAX_PICTURES = 64


class JpegParts:
    """The pieces of a JPEG, each looked for when it is asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.segments = list(jpeg_segments(data))

    @cached_property
    def xmp(self) -> list[ElementTree.Element]:
        """The standard XMP packet and, if it has one, its extension. Raises InputError for damaged ones."""
        standard = next((body[len(_XMP) :] for body in self._bodies(_APP1, _XMP)), None)
        if standard is None:
            return []
        root = parse_packet(standard)
        guid = merged([root], _NOTE).get("HasExtendedXMP", "")
        return [root, parse_packet(self._extension(guid))] if guid else [root]

    def _extension(self, guid: str) -> bytes:
        """The extended packet of this identifier, put together; its length is the file's own, whatever it claims."""
        pieces: dict[int, bytes] = {}
        claimed = 0
        start = len(_EXTENDED) + _GUID
        for body in self._bodies(_APP1, _EXTENDED + guid.encode("ascii", "replace")):
            if len(body) >= start + 8:
                claimed, offset = struct.unpack_from(">II", body, start)
                pieces[offset] = body[start + 8 :]
        size = 0
        for offset in sorted(pieces):
            if offset != size:
                break
            size += len(pieces[offset])
        if not pieces or size != claimed or size > MAX_BYTES:
            raise InputError("parts of its extended XMP data are missing: it was cut short or edited")
        return b"".join(pieces[offset] for offset in sorted(pieces))

    @property
    def orientation(self) -> int:
        """By its EXIF data or, without them, its XMP, as where the photograph itself is read."""
        try:
            return orientation_of(JpegImageFile(io.BytesIO(self.data)))
        except Exception:  # Pillow raises a dozen kinds for broken files
            return 1

    @property
    def end(self) -> int | None:
        """Where the first picture ends; None where it has no end."""
        return end_of_picture(self.segments, self.data)

    def further_pictures(self) -> Iterator[bytes]:
        """The pictures behind the first, by the list in the file; what lies outside of it is left out."""
        for segment in self.segments:
            if segment.marker == _APP2 and segment.body.startswith(_MPF):
                base = segment.start + 4 + len(_MPF)
                for size, offset in _listed(segment.body[len(_MPF) :]):
                    if offset and 0 < size <= len(self.data) - base - offset:
                        yield self.data[base + offset : base + offset + size]
                return

    def _bodies(self, marker: int, start: bytes) -> Iterator[bytes]:
        return (s.body for s in self.segments if s.marker == marker and s.body.startswith(start))


def _listed(tiff: bytes) -> list[tuple[int, int]]:
    """Size and offset of each picture; of a damaged list what can be read."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for index in range(count):
            tag, _, length, place = struct.unpack_from(order + "HHII", tiff, directory + 2 + 12 * index)
            if tag == _MP_ENTRIES:
                entries = range(place, place + min(length // _MP_ENTRY, _MAX_PICTURES) * _MP_ENTRY, _MP_ENTRY)
                return [struct.unpack_from(order + "4xII4x", tiff, entry)[:2] for entry in entries]
    except struct.error:
        pass
    return []
