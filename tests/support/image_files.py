"""Pictures with known values, and writers of the files that Pillow and tifffile do not write."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

H, W = 37, 53
ROWS, COLS = np.mgrid[0:H, 0:W]
RGB8 = np.stack([COLS * 4, ROWS * 6, (ROWS + COLS) * 2], axis=-1).astype(np.uint8)
RGB16 = np.stack([COLS * 1237, ROWS * 1771, (ROWS * W + COLS) * 33], axis=-1).astype(np.uint16)
ALPHA16 = ((ROWS * 7919 + COLS * 104729) % 65536).astype(np.uint16)
GREY8, ALPHA8 = RGB8[..., 0], (ALPHA16 >> 8).astype(np.uint8)
ORIENTED = {  # stored picture of each EXIF orientation, from the upright one
    1: lambda u: u,
    2: np.fliplr,
    3: lambda u: np.rot90(u, 2),
    4: np.flipud,
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: np.rot90(u, 1),
    7: lambda u: np.rot90(u, 2).swapaxes(0, 1),
    8: lambda u: np.rot90(u, -1),
}


def plain(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


def saved(pixels: np.ndarray | Image.Image, format: str, **options: Any) -> io.BytesIO:
    image = pixels if isinstance(pixels, Image.Image) else plain(pixels)
    file = io.BytesIO()
    image.save(file, format, **options)
    return io.BytesIO(file.getvalue())


def tiff(pixels: np.ndarray, icc: bytes | None = None, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    if icc:
        options["extratags"] = [(34675, 7, len(icc), icc, True)]
    tifffile.imwrite(file, np.ascontiguousarray(pixels), **options)
    return io.BytesIO(file.getvalue())


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    top = 65535.0 if colour.dtype == np.uint16 else 255.0
    a = alpha[..., None] / top
    return np.rint(colour * a + top * (1 - a)).astype(colour.dtype)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1)


# --- PNG written by hand: Pillow cannot write 16-bit colour ------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def filtered(pixels: np.ndarray, kind: int | None) -> bytes:
    """PNG scan lines of a (H, W, C) uint16 picture with filter `kind`; None: all five in turn."""
    bytes_per_pixel = 2 * pixels.shape[2]
    rows = pixels.astype(">u2").reshape(len(pixels), -1).view(np.uint8).astype(int)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    left, corner = (np.pad(a, ((0, 0), (bytes_per_pixel, 0)))[:, :-bytes_per_pixel] for a in (rows, above))
    guess = left + above - corner
    distances = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
    predictions = [0 * rows, left, above, (left + above) // 2, paeth]
    lines = []
    for y in range(len(rows)):
        k = y % 5 if kind is None else kind
        lines.append(bytes([k]) + ((rows - predictions[k])[y] % 256).astype(np.uint8).tobytes())
    return b"".join(lines)


def png16(
    pixels: np.ndarray, kind: int | None = None, interlaced: bool = False, extra: bytes = b""
) -> io.BytesIO:
    """A 16-bit PNG of (H, W, C), C = 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA; `extra`: chunks before IDAT."""
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    height, width = pixels.shape[:2]
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7
        passes = [
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
            (1, 0, 2, 1),
        ]
    data = b"".join(filtered(pixels[y::dy, x::dx], kind) for y, x, dy, dx in passes)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, interlaced)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)


# --- TIFF compressions that tifffile cannot write ----------------------------------------------------------


def lzw(data: bytes) -> bytes:
    """LZW without compressing: 9-bit literals, with the table cleared before it outgrows nine bits."""
    codes = [code for i in range(0, len(data), 250) for code in (256, *data[i : i + 250])] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def packbits(data: bytes) -> bytes:
    return b"".join(bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128))


def recompressed(path: Path, pixels: np.ndarray, code: int, **options: Any) -> Path:
    """A TIFF of one strip (a plane) compressed with LZW (5) or PackBits (32773)."""
    tifffile.imwrite(path, np.ascontiguousarray(pixels), rowsperstrip=H, **options)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    whole = path.read_bytes()
    encode = {5: lzw, 32773: packbits}[code]
    encoded = [encode(whole[start : start + count]) for start, count in strips]
    starts = [len(whole) + sum(map(len, encoded[:i])) for i in range(len(encoded))]
    path.write_bytes(whole + b"".join(encoded))
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages.first.tags
        for tag, value in ((259, code), (273, starts), (279, [len(part) for part in encoded])):
            tags[tag].overwrite(value)
    return path
