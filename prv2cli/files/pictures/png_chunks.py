"""A PNG chunk by chunk: strict about what its pixels depend on, and about nothing else.

file -> sound_png: the file itself, or a whole one made of its sound chunks, and notes of what was wrong
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIECE = 1 << 20
_PIXELS, _END = b"IDAT", b"IEND"
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the type of colour


class Chunk(NamedTuple):
    """Where a chunk's data lie, and whether they are whole and as they were written."""

    name: bytes
    start: int
    size: int  # as far as the file goes
    whole: bool
    sound: bool


def sound_png(file: BinaryIO) -> tuple[BinaryIO, tuple[str, ...]]:
    """`file`, if it is sound; else a file of its sound chunks with all pixels, and notes. The file is at its start.

    Raises ValueError where pixels are missing, or a chunk that they depend on is damaged: a decoder would show noise.
    """
    found, notes = list(chunks(file)), []
    damaged = [chunk for chunk in found if not chunk.sound]
    for chunk in damaged:
        name = chunk.name.decode("latin-1")
        if (
            chunk.whole and chunk.name[:1].isupper() and chunk.name != _END
        ):  # capital: what the pixels depend on
            raise ValueError(f"checksum error in its {name} chunk")
    needs_end = not found or found[-1].name != _END or not found[-1].sound
    if needs_end:
        if not _all_rows(file, found):
            raise ValueError("it ends before its last chunk")
        notes.append("its end is missing: every row is there and was read")
    dropped = [chunk for chunk in damaged if chunk.whole and chunk.name != _END]
    if dropped:
        names = ", ".join(dict.fromkeys(ascii(chunk.name)[2:-1] for chunk in dropped))
        notes.append(f"damaged {names} chunk left out")
    file.seek(0)
    return (_rebuilt(file, found), tuple(notes)) if notes else (file, ())


def chunk_data(file: BinaryIO, wanted: bytes) -> bytes | None:
    """The data of the first chunk of a name, None where there is none; of the others nothing is read."""
    at, name = len(SIGNATURE), b""
    while name != _END:
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return None
        size, name = int.from_bytes(header[:4], "big"), header[4:]
        if name == wanted:
            return file.read(size)
        at += 12 + size
    return None


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """From the first chunk to the last one, or to the end of the file."""
    at = len(SIGNATURE)
    name = b""
    while name != _END:
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return
        size, name = int.from_bytes(header[:4], "big"), header[4:]
        if not name.isalpha() or not name.isascii():
            return
        crc, left = zlib.crc32(name), size
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                break
            crc, left = zlib.crc32(piece, crc), left - len(piece)
        stored = file.read(4)
        whole = not left and len(stored) == 4
        yield Chunk(name, at + 8, size - left, whole, whole and stored == crc.to_bytes(4, "big"))
        if not whole:
            return
        at += 12 + size


def _all_rows(file: BinaryIO, found: list[Chunk]) -> bool:
    """Whether the compressed data of a PNG that ends early hold all of its rows."""
    header = next((chunk for chunk in found if chunk.name == b"IHDR" and chunk.sound), None)
    if header is None:
        return False
    file.seek(header.start)
    missing = _bytes_of_rows(file.read(header.size))
    decoder = zlib.decompressobj()
    for chunk in found:
        if chunk.name == _PIXELS and missing > 0:
            file.seek(chunk.start)
            data = file.read(chunk.size)
            while data and missing > 0 and not decoder.eof:
                try:
                    missing -= len(decoder.decompress(data, _PIECE))
                except zlib.error:
                    return False
                data = decoder.unconsumed_tail
    return missing <= 0


def _bytes_of_rows(header: bytes) -> int:
    """What the rows of a picture with this IHDR take, with the byte of each row's filter."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _SAMPLES.get(header[9], 4)
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    sizes = (((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def _rebuilt(file: BinaryIO, found: list[Chunk]) -> BinaryIO:
    out = io.BytesIO()
    out.write(SIGNATURE)
    for chunk in found:
        if chunk.name == _END or not (chunk.sound or chunk.name == _PIXELS):
            continue
        file.seek(chunk.start)
        _write(out, chunk.name, file.read(chunk.size))
    _write(out, _END, b"")
    file.seek(0)
    out.seek(0)
    return out


def _write(out: BinaryIO, name: bytes, data: bytes) -> None:
    crc = zlib.crc32(data, zlib.crc32(name))
    out.write(len(data).to_bytes(4, "big") + name + data + crc.to_bytes(4, "big"))
