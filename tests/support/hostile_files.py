"""Small whole files of every kind, to be damaged; and files that claim or unpack to far more than they hold."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import tifffile
from image_files import ALPHA8, ORIENTED, RGB8, RGB16, chunk, png16, saved, tiff
from packed_tiffs import packed
from PIL import Image, ImageCms

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.errors import MissingExtraError

SMALL8, SMALL16, SMALL_ALPHA = RGB8[:17, :23], RGB16[:17, :23], ALPHA8[:17, :23]


def photographs() -> dict[str, bytes]:
    """One file of each kind, by a name that ends in its extension; without the formats that are not installed."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colour = Image.fromarray(SMALL8)
    files = {
        "exif and profile.jpg": saved(SMALL8, "JPEG", exif=exif, icc_profile=icc),
        "progressive.jpg": saved(SMALL8, "JPEG", progressive=True),
        "cmyk.jpg": saved(colour.convert("CMYK"), "JPEG"),
        "alpha.png": saved(np.dstack([SMALL8, SMALL_ALPHA]), "PNG"),
        "palette.png": saved(colour.quantize(16), "PNG"),
        "16-bit.png": png16(SMALL16),
        "interlaced.png": png16(SMALL16, interlaced=True),
        "lossy.webp": saved(SMALL8, "WEBP"),
        "lossless.webp": saved(SMALL8, "WEBP", lossless=True, exif=exif),
        "plain.bmp": saved(SMALL8, "BMP"),
        "plain.tif": saved(SMALL8, "TIFF"),
        "lzw.tif": saved(SMALL8, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": saved(SMALL8, "TIFF", compression="jpeg"),
        "fax.tif": saved(colour.convert("1"), "TIFF", compression="group4"),
        "strips.tif": tiff(SMALL16, photometric="rgb", compression="zlib", rowsperstrip=4),
        "predictor.tif": tiff(SMALL16, photometric="rgb", predictor=2, compression="zlib"),
        "tiles.tif": tiff(SMALL8, photometric="rgb", tile=(16, 16), bigtiff=True),
        "float.tif": tiff(SMALL16.astype("f4") / 65535, photometric="rgb", byteorder=">"),
        "packed floats.tif": packed((SMALL16 / 65535).astype("f4"), ">", 5, 3),
        "thumbnail first.tif": _thumbnail_first(),
        "restarts.jpg": saved(SMALL8, "JPEG", restart_marker_blocks=1),
        "linear.png": png16(SMALL16, extra=chunk(b"gAMA", struct.pack(">I", 100_000))),
        "coded.png": png16(SMALL16, extra=chunk(b"cICP", bytes((12, 13, 0, 1)))),
        "lzma.tif": tiff(SMALL16[..., 0], photometric="minisblack", compression="lzma"),
    }
    with suppress(KeyError, OSError):  # Pillow without AVIF
        files["8-bit.avif"] = saved(SMALL8, "AVIF")
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        files["8-bit.heic"] = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(RGB8)).save(files["8-bit.heic"])
    return {name: file.getvalue() for name, file in files.items()}


def _thumbnail_first() -> io.BytesIO:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SMALL8[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
        writer.write(SMALL8, photometric="rgb", metadata=None)
    return file


DEPTH = np.random.default_rng(0).uniform(0.5, 90, (13, 19)).astype(np.float32)
DEPTH[2:4, 5:9] = np.nan
METADATA = DepthMetadata(model="lite", focal_px=1200.0, extra={"seam": 0.01})
FORMATS = ("png", "tif", "npy", "npz", "exr")


def depth_maps() -> dict[str, bytes]:
    """Depth files by prv2 in each format that is installed, and some by others."""
    integers = (np.nan_to_num(DEPTH) * 256).astype(np.uint16)
    others = {
        "others.pfm": b"Pf\n19 13\n-1.0\n" + DEPTH.tobytes(),
        "others.npz": _saved(np.savez, depth=DEPTH),
        "others.npy": _saved(np.save, integers.astype(">u4")),
        "tiles.tif": tiff(integers, compression="zlib", tile=(16, 16)).getvalue(),
        "pillow.tif": saved(Image.fromarray(integers), "TIFF").getvalue(),
        "float.tif": written("tif", dtype="float32"),
        "nodata.tif": tiff(
            ORIENTED[6](integers), extratags=[(42113, 2, 2, "0", True), (274, 3, 1, 6, True)]
        ).getvalue(),
        "several.npz": _saved(np.savez, depth_map=DEPTH[None], intrinsics=np.eye(3), mask=DEPTH > 1),
        "clear.png": png16(integers[..., None], extra=chunk(b"tRNS", b"\0\0")).getvalue(),
        "alpha.png": png16(np.dstack([integers, integers])).getvalue(),
        "packed.tif": packed(np.nan_to_num(DEPTH), ">", 5, 3).getvalue(),
    }
    for fmt in FORMATS:
        with suppress(MissingExtraError):
            others[f"prv2.{fmt}"] = written(fmt)
    return others


def written(fmt: str, metadata: DepthMetadata = METADATA, dtype: Any = "uint16") -> bytes:
    file = io.BytesIO()
    write_depth(file, DEPTH, metadata, fmt=fmt, dtype=dtype)
    return file.getvalue()


def _saved(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


# --- Bombs --------------------------------------------------------------------------------------------------


def zeros(size: int) -> bytes:
    """`size` zero bytes, a multiple of a megabyte, in Deflate: a thousandth of that."""
    deflate, piece = zlib.compressobj(), bytes(1 << 20)
    return b"".join([*(deflate.compress(piece) for _ in range(size >> 20)), deflate.flush()])


def one_strip(width: int, height: int, bits: int, compression: int, data: bytes) -> bytes:
    """A grey TIFF with one strip of these bytes, whatever they are."""
    return _page(width, height, bits, compression, data, {278: height}, 273, 279)


def one_tile(size: int, tile: int, bits: int, data: bytes) -> bytes:
    """A grey TIFF of `size` x `size` pixels in one Deflate tile of `tile` x `tile`."""
    return _page(size, size, bits, 8, data, {322: tile, 323: tile}, 324, 325)


def _page(
    width: int,
    height: int,
    bits: int,
    compression: int,
    data: bytes,
    more: dict[int, int],
    at: int,
    count: int,
) -> bytes:
    tags = {256: width, 257: height, 258: bits, 259: compression, 262: 1, 277: 1, 339: 1, **more}
    tags |= {count: len(data), at: 8 + 2 + 12 * (len(tags) + 2) + 4}
    return b"II*\0\x08\0\0\0" + _directory(tags, 0) + data


def _directory(tags: dict[int, int], following: int) -> bytes:
    entries = [struct.pack("<HHII", code, 4, 1, tags[code]) for code in sorted(tags)]
    return struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", following)


def many_pages(count: int) -> bytes:
    """A TIFF of `count` grey pages of 4 x 4 pixels, 16 bits, that share their pixels."""
    tags = {256: 4, 257: 4, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 32}
    size, first = len(_directory(tags, 0)), 8 + 32
    directories = [_directory(tags, 0 if i == count - 1 else first + (i + 1) * size) for i in range(count)]
    return (
        b"II*\0"
        + struct.pack("<I", first)
        + np.arange(100, 116, dtype="<u2").tobytes()
        + b"".join(directories)
    )


def png(width: int, height: int, bits: int, colours: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def npz_with_a_long_header(length: int) -> bytes:
    """An .npz of a few kB whose array has `length` bytes of header."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("depth.npy", "w") as member,
    ):
        member.write(b"\x93NUMPY\2\0" + struct.pack("<I", length))
        for _ in range(length >> 20):
            member.write(b" " * (1 << 20))
    return file.getvalue()


def bombs() -> dict[str, bytes]:
    """Files of less than a megabyte that would take gigabytes, or the time for them."""
    packed = zeros(1 << 28)
    empty, pixels = zlib.compress(b""), chunk(b"IDAT", zlib.compress(bytes(10 * 31)))
    return {
        "a PNG that claims 26,000 x 26,000": png(26000, 26000, 8, 2, chunk(b"IDAT", empty)),
        "a PNG of 16 bits that claims as much": png(26000, 26000, 16, 2, chunk(b"IDAT", empty)),
        "a grey PNG that claims as much": png(26000, 26000, 16, 0, chunk(b"IDAT", empty)),
        "a PNG with too many pixels": png(10, 10, 8, 2, chunk(b"IDAT", packed)),
        "a PNG with a long text": png(10, 10, 8, 2, chunk(b"zTXt", b"a\0\0" + packed), pixels),
        "a PNG with a long profile": png(10, 10, 8, 2, chunk(b"iCCP", b"a\0\0" + packed), pixels),
        "a TIFF that claims 26,000 x 26,000": one_strip(26000, 26000, 8, 8, zeros(1 << 20)),
        "a TIFF of 16 bits that claims as much": one_strip(26000, 26000, 16, 8, zeros(1 << 20)),
        "a TIFF with a long strip": one_strip(10, 10, 8, 8, packed),
        "a TIFF of 16 bits with a long strip": one_strip(10, 10, 16, 8, packed),
        "a TIFF with a long LZMA strip": one_strip(
            10, 10, 16, 34925, lzma.compress(bytes(1 << 26), preset=0)
        ),
        "a TIFF with a huge tile": one_tile(10, 60000, 8, packed),
        "a TIFF of 16 bits with a huge tile": one_tile(10, 60000, 16, packed),
        "an NPZ with a long header": npz_with_a_long_header(1 << 28),
    }
