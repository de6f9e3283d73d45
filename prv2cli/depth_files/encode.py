"""How a depth map becomes bytes: one encoder per format, fed with bands of rows.

    Rows       depth (H, W) -> the numbers that are stored, a band at a time, counting on the way
    ENCODERS   format name -> encode(file, rows, text); `text` is the metadata as JSON

Where the metadata lives: PNG: a tEXt chunk "prv2". TIFF: ImageDescription. .npz: the member "metadata". .exr:
the header attribute "prv2". .npy: behind the array, where `np.load` does not look: the JSON, its length as 8
bytes little endian, and the 8 bytes of NPY_MAGIC.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from prv2cli.errors import MissingExtraError

NPY_MAGIC = b"prv2meta"
PNG_KEY = "prv2"
EXR_KEY = "prv2"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TOP = 65535  # the largest 16-bit number: "clipped at the top"
FINE = 50  # from here on, half a step is at most 1 % of the number
BAND_PIXELS = 1 << 16  # 512 kB of float64: what stays in a processor's cache
_INTEGER_LEVEL = 4  # zlib: on depth, 10 % larger files than level 6 in a third of its time
_FLOAT_LEVEL = 1  # higher levels gain 1 % on float32 depth for twice the time
_OPENEXR = (3, 5)  # writes to files that are open, since then
_BIGTIFF_BYTES = 4_000_000_000  # a classic TIFF ends at 2**32; leave room for what does not compress


def row_bands(height: int, width: int) -> Iterator[slice]:
    """Slices of rows of about BAND_PIXELS pixels each."""
    step = max(1, BAND_PIXELS // width)
    return (slice(y, min(y + step, height)) for y in range(0, height, step))


@dataclass
class Rows:
    """The stored form of `depth` (H, W). Iterating yields (rows, W) bands and sets the counts of pixels.

    uint16: round(depth * scale), 0 = no depth, TOP = that or more; a depth that would round to 0 becomes 1.
    float32: the value itself, NaN = no depth. `invert` stores 1/depth instead.
    No depth is anything that is not finite and above 0.
    `on_band` is called before each band; what it raises ends the encoding.
    """

    depth: np.ndarray
    dtype: np.dtype[Any]
    scale: float = 1.0
    invert: bool = False
    clipped: int = 0  # larger than TOP
    invalid: int = 0
    rounded: int = 0  # below FINE, where rounding may pass 1 %
    on_band: Callable[[], None] = lambda: None

    @property
    def shape(self) -> tuple[int, int]:
        return self.depth.shape[0], self.depth.shape[1]

    @property
    def per_band(self) -> int:
        return max(1, BAND_PIXELS // self.shape[1])

    def __iter__(self) -> Iterator[np.ndarray]:
        self.clipped = self.invalid = self.rounded = 0
        for band in self._bands():
            with np.errstate(all="ignore"):
                stored = self._integers(band) if self.dtype == np.uint16 else self._floats(band)
            yield stored

    def count_clipped(self) -> int:
        """How many pixels are too large for uint16: most formats want the number before the pixels."""
        clipped = 0
        with np.errstate(all="ignore"):
            for band in self._bands():
                steps = np.multiply(band, self.scale, dtype=np.float64)
                clipped += int(np.count_nonzero((steps >= TOP + 0.5) & (band < np.inf)))
        return clipped

    def _bands(self) -> Iterator[np.ndarray]:
        for rows in row_bands(*self.shape):
            self.on_band()
            band = np.ascontiguousarray(self.depth[rows])
            if self.invert:
                with np.errstate(all="ignore"):
                    band = np.reciprocal(band, dtype=np.float64)
            yield band

    def _integers(self, band: np.ndarray) -> np.ndarray:
        steps = np.multiply(band, self.scale, dtype=np.float64)
        valid = (band > 0) & (band < np.inf)
        np.rint(steps, out=steps)
        self.clipped += int(np.count_nonzero((steps > TOP) & valid))
        self.rounded += int(np.count_nonzero((steps < FINE) & valid))
        self.invalid += valid.size - int(np.count_nonzero(valid))
        np.fmax(steps, 1, out=steps)  # of NaN and 1, fmax takes the 1
        np.minimum(steps, TOP, out=steps)
        steps *= valid
        return steps.astype(np.uint16)

    def _floats(self, band: np.ndarray) -> np.ndarray:
        values = band.astype(np.float32)
        bad = ~(np.isfinite(values) & (values > 0))
        values[bad] = np.nan
        self.invalid += int(np.count_nonzero(bad))
        return values


def encode_png(file: BinaryIO, rows: Rows, text: str) -> None:
    """16-bit grey PNG; every line holds its difference to the line above (filter "up")."""
    height, width = rows.shape
    file.write(PNG_SIGNATURE)
    _png_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
    _png_chunk(file, b"tEXt", PNG_KEY.encode() + b"\0" + text.encode("ascii"))
    deflate = zlib.compressobj(_INTEGER_LEVEL)
    above = np.zeros((1, 2 * width), np.uint8)
    for band in rows:
        line = band.astype(">u2").view(np.uint8)  # (rows, 2 W)
        filtered = np.full((len(line), 1 + 2 * width), 2, np.uint8)  # byte 0 of a line: its filter
        np.subtract(line, np.concatenate([above, line[:-1]]), out=filtered[:, 1:])
        above = line[-1:]
        _png_chunk(file, b"IDAT", deflate.compress(filtered.data))
    _png_chunk(file, b"IDAT", deflate.flush())
    _png_chunk(file, b"IEND", b"")


def _png_chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    if data or name != b"IDAT":
        crc = zlib.crc32(data, zlib.crc32(name))
        file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc))


def encode_tiff(file: BinaryIO, rows: Rows, text: str) -> None:
    """Deflate with the horizontal predictor on the 16- or 32-bit patterns; BigTIFF where it may pass 4 GB.

    tifffile has no predictor for floats without its optional codecs, and neither do its readers. The one for
    integers is lossless on the same bits and libtiff, tifffile and OpenCV all undo it: so floats are written
    as integers, and the tag that says how to read the bits is corrected afterwards.
    """

    height, width = rows.shape
    big = height * width * rows.dtype.itemsize > _BIGTIFF_BYTES
    write_tiff(file, rows, map(compress_differences, rows), text, bigtiff=big, rowsperstrip=rows.per_band)


def write_tiff(file: BinaryIO, rows: Rows, segments: Iterator[bytes], text: str, **layout: Any) -> None:
    """Strips or tiles from compress_differences as a TIFF of one page; `layout`: of tifffile's TiffWriter.write."""
    import tifffile

    is_float = rows.dtype == np.float32
    with tifffile.TiffWriter(file, bigtiff=layout.pop("bigtiff"), byteorder="<") as tiff:
        tiff.write(
            segments,
            shape=rows.shape,
            dtype=np.int32 if is_float else np.uint16,  # int32, as tifffile writes no SampleFormat for uint32
            compression="zlib",
            predictor=2,
            photometric="minisblack",
            description=text,
            software=False,
            metadata=None,
            **layout,
        )
    if is_float:
        file.seek(0)
        with tifffile.TiffFile(file) as written:
            page: Any = written.pages[0]
            page.tags["SampleFormat"].overwrite(3)  # IEEE floats
        file.seek(0, io.SEEK_END)


def compress_differences(part: np.ndarray) -> bytes:
    """A strip or tile of uint16 or float32, as the integers of its bits, with TIFF's horizontal predictor."""
    is_float = part.dtype.kind == "f"
    bits = part.astype(part.dtype.newbyteorder("<"), copy=False).view(np.dtype("<u4" if is_float else "<u2"))
    differences = bits.copy()
    differences[:, 1:] -= bits[:, :-1]
    return zlib.compress(differences.data, _FLOAT_LEVEL if is_float else _INTEGER_LEVEL)


def encode_npy(file: BinaryIO, rows: Rows, text: str) -> None:
    """A plain .npy with the metadata behind the array."""
    _write_npy(file, rows)
    data = text.encode("ascii")
    file.write(data + struct.pack("<Q", len(data)) + NPY_MAGIC)


def _write_npy(file: Any, rows: Rows) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": rows.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for band in rows:
        file.write(band.astype("<f4", copy=False).data)


def encode_npz(file: BinaryIO, rows: Rows, text: str) -> None:
    """`depth` (H, W) float32 and `metadata`, a 0-d string; `np.load` reads both with allow_pickle=False."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_FLOAT_LEVEL) as archive:
        with archive.open("depth.npy", "w", force_zip64=True) as member:
            _write_npy(member, rows)
        with archive.open("metadata.npy", "w") as member:
            np.lib.format.write_array(member, np.array(text), allow_pickle=False)


def encode_exr(file: BinaryIO, rows: Rows, text: str) -> None:
    """One float32 channel "Z". OpenEXR takes the whole map at once, and writes it in pieces."""
    openexr = import_openexr()
    values = np.concatenate(list(rows))
    header = {EXR_KEY: text, "compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, {"Z": values}).write(_Watched(file, rows.on_band))


@dataclass
class _Watched:
    """What OpenEXR asks of a file, with `on_write` called before each piece: also where Ctrl-C gets through."""

    file: BinaryIO
    on_write: Callable[[], None]

    def write(self, piece: bytes) -> int:
        self.on_write()
        return self.file.write(piece)

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(place, whence)


def import_openexr() -> Any:
    """The OpenEXR module, recent enough. Raises MissingExtraError."""
    try:
        import OpenEXR
    except ImportError as exc:
        raise MissingExtraError("An .exr file", "exr") from exc
    if tuple(map(int, OpenEXR.__version__.split(".")[:2])) < _OPENEXR:
        raise MissingExtraError("An .exr file", "exr")
    return OpenEXR


Encoder = Callable[[BinaryIO, Rows, str], None]
ENCODERS: dict[str, Encoder] = {
    "png": encode_png,
    "tiff": encode_tiff,
    "npy": encode_npy,
    "npz": encode_npz,
    "exr": encode_exr,
}
