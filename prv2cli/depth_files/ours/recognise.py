"""Whose file is it, and is it whole? What a batch asks of the files that lie where its outputs go.

is_by_prv2      a depth map, a confidence or a picture that says of itself that prv2 wrote it
may_be_replaced that, or what nobody can read: an output that was cut off before it could say so
is_complete     all the pixels are there, as far as sizes and the last piece of them tell; no other is read
picture_is_complete   the same of a picture for the eye
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from prv2cli.depth_files.decode import decode, read_text
from prv2cli.depth_files.formats.checks import size_of
from prv2cli.depth_files.formats.numpy_arrays import NPY_MAGIC
from prv2cli.depth_files.formats.png import PNG_SIGNATURE
from prv2cli.depth_files.ours.metadata import SOFTWARE
from prv2cli.depth_files.ours.signature import is_signed
from prv2cli.errors import Prv2Error
from prv2cli.files.protected import identity

_HEAD = 1 << 16  # bytes, more than any header of ours
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# How a TIFF begins whose first page is described right there -> the place, its count, an entry's size, the entry, how
# many bytes lie in the entry itself.
_FIRST_PAGES = {
    b"II*\0\x08\0\0\0": (8, "<H", 12, "<HHII", 4),
    b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0": (16, "<Q", 20, "<HHQQ", 8),
}
_DESCRIPTION = 270
_SAYS_SO = f'{{"software": "{SOFTWARE}"'.encode()  # how the metadata begins
_ZLIB = (8, 32946)  # compressions of a TIFF
_PIECE = 1 << 20


def is_by_prv2(path: Path) -> bool:
    """Whether a regular file says that prv2 wrote it. Of a picture only the header is read."""
    if identity(path) is None:
        return False
    try:
        with path.open("rb") as file:
            if _says_so(file):
                return True
            file.seek(0)
            return is_signed(file)
    except OSError:
        return False


def may_be_replaced(path: Path) -> bool:
    """Whether a regular file is prv2's own, or holds nothing that anyone could read.

    Nothing: it is empty, all zeros, or ends before what its own beginning, which is that of an output, promises.
    """
    if identity(path) is None:
        return False
    if is_by_prv2(path):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            return (not head.strip(b"\0") and _all_zero(file)) or _is_cut_off(head, file, path)
    except OSError:
        return False


def is_complete(path: Path, *, verify: bool = False) -> bool:
    """Whether the pixels of a depth file by prv2 are all there.

    Of a PNG or TIFF the sizes and the last piece are looked at; other formats, and with `verify` all, are decoded.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
            file.seek(0)
            if not verify and head == PNG_SIGNATURE:
                return _png_is_complete(file)
            if not verify and head.startswith(_TIFF_STARTS):
                return _tiff_is_complete(file)
            decode(file, str(path))
    except (OSError, Prv2Error):
        return False
    return True


def picture_is_complete(path: Path) -> bool:
    """Whether a PNG, JPEG or WebP ends as it should; no pixel is decoded. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(12)
        if head.startswith(PNG_SIGNATURE):
            return _png_is_complete(file)
        if head.startswith(b"RIFF"):
            return len(head) == 12 and struct.unpack_from("<I", head, 4)[0] + 8 == size_of(file)
        file.seek(max(0, size_of(file) - 2))
        return head.startswith(b"\xff\xd8") and file.read() == b"\xff\xd9"


def _says_so(file: BinaryIO) -> bool:
    """Whether there is metadata, also beside pixels that are damaged."""
    start = file.read(4)
    file.seek(0)
    try:
        if start == b"PK\3\4":
            with zipfile.ZipFile(file) as archive, archive.open("metadata.npy") as member:
                return _SAYS_SO in member.read(_HEAD).replace(b"\0", b"")  # NumPy has four bytes a letter
        if start == b"\x93NUM":
            file.seek(-len(NPY_MAGIC), io.SEEK_END)
            return file.read() == NPY_MAGIC
        return read_text(file) is not None
    except Exception:  # no depth file, or a damaged one: the decoders meet arbitrary bytes
        return False


# --- cut off ----------------------------------------------------------------------------------------------


def _all_zero(file: BinaryIO) -> bool:
    while piece := file.read(_PIECE):
        if piece.strip(b"\0"):
            return False
    return True


def _is_cut_off(head: bytes, file: BinaryIO, path: Path) -> bool:
    """Whether a file begins as an output does, and ends too early to be read by any program."""
    size = size_of(file)
    if head.startswith(PNG_SIGNATURE):
        return head[37:46] == b"tEXtprv2\0" or size < 41
    for header, page in _FIRST_PAGES.items():
        if head.startswith(header):
            return _page_is_cut_off(head, size, *page)
    if head.startswith(b"\x93NUMPY"):
        return _array_is_cut_off(head, file, size)
    if head.startswith(b"PK\3\4"):
        return b"depth.npy".startswith(head[30:39]) and not zipfile.is_zipfile(path)
    if head.startswith(b"\x76\x2f\x31\x01"):
        return _SAYS_SO[1:] in head
    return any(start.startswith(head) for start in (PNG_SIGNATURE, *_FIRST_PAGES, b"\x93NUMPY", b"PK\3\4"))


def _page_is_cut_off(
    head: bytes, size: int, place: int, count_type: str, entry_size: int, entry_type: str, inline: int
) -> bool:
    """Of a TIFF whose first page is described at its start, as ours: whether that description is not all there."""
    width = struct.calcsize(count_type)
    if size < place + width:
        return True
    (count,) = struct.unpack_from(count_type, head, place)
    first = place + width
    if size < first + count * entry_size:
        return True
    for k in range(min(count, 64)):
        tag, _, length, value = struct.unpack_from(entry_type, head, first + k * entry_size)
        if tag == _DESCRIPTION:
            return length > inline and size < int(length) + int(value)
    return False


def _array_is_cut_off(head: bytes, file: BinaryIO, size: int) -> bool:
    """Also where the numbers are all there and of the text behind them only the beginning."""
    stream = io.BytesIO(head)
    try:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except ValueError:
        return size < _HEAD
    end = stream.tell() + math.prod(shape) * 4
    file.seek(end)
    text = file.read(len(_SAYS_SO))
    return (
        dtype == np.dtype("<f4")
        and len(shape) == 2
        and (size < end or (text != b"" and _SAYS_SO.startswith(text)))
    )


# --- complete ---------------------------------------------------------------------------------------------


def _png_is_complete(file: BinaryIO) -> bool:
    """Its chunks follow each other to the last one, and the last of the pixels has its checksum."""
    size, place, last = size_of(file), len(PNG_SIGNATURE), None
    while place + 12 <= size:
        file.seek(place)
        length, name = struct.unpack(">I4s", file.read(8))
        if name == b"IDAT":
            last = place, length
        place += 12 + length
        if name == b"IEND":
            return place <= size and last is not None and _has_checksum(file, *last)
    return False


def _has_checksum(file: BinaryIO, place: int, length: int) -> bool:
    file.seek(place + 4)
    checked = zlib.crc32(file.read(4 + length))
    return file.read(4) == struct.pack(">I", checked)


def _tiff_is_complete(file: BinaryIO) -> bool:
    """All strips or tiles lie within the file, and the last one can be unpacked."""
    import tifffile

    size = size_of(file)
    try:
        with tifffile.TiffFile(file) as tiff:
            page: Any = tiff.pages.first
            pieces = list(zip(page.dataoffsets, page.databytecounts, strict=True))
            if len(pieces) != math.prod(page.chunked) or any(not n or at + n > size for at, n in pieces):
                return False
            if page.compression in _ZLIB:
                at, length = pieces[-1]
                file.seek(at)
                zlib.decompress(file.read(length))
    except Exception:  # a damaged header: whatever tifffile makes of it
        return False
    return True
