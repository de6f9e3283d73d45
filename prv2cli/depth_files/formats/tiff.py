"""TIFF: 16-bit integers or float32, deflated. The metadata is the ImageDescription; TIFFs by others are read widely."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from prv2cli.depth_files.formats.checks import MAX_RATIO, Decoded, check, check_pillow, size_of
from prv2cli.depth_files.formats.rows import FLOAT_LEVEL, INTEGER_LEVEL, Rows
from prv2cli.depth_files.metadata import is_ours
from prv2cli.errors import InputError
from prv2cli.files.tiff_limits import check_expansion, check_layout

_BIGTIFF_BYTES = 4_000_000_000  # a classic TIFF ends at 2**32; leave room for what does not compress
_MAX_PAGES = 64  # of a TIFF, reduced copies of the map included


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
    return zlib.compress(differences.data, FLOAT_LEVEL if is_float else INTEGER_LEVEL)


def decode_tiff(file: BinaryIO) -> Decoded:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        count = len(tiff.pages)  # counting is fast, looking at each of 16,000 is not
        if count > _MAX_PAGES:
            raise InputError(f"a TIFF of {count} pages; a depth map is one")
        pages = [page for page in tiff.pages if not getattr(page, "is_reduced", False)]
        if len(pages) != 1:
            raise InputError(f"a TIFF of {len(pages)} pages; a depth map is one")
        page: Any = pages[0]
        if page.dtype is None:
            raise InputError(f"{page.bitspersample}-bit samples; use 16-bit integers or 32-bit floats")
        check(page.shape, page.dtype, size_of(file) * MAX_RATIO)
        text = page.description if is_ours(page.description) else None
        check_layout(page)
        check_expansion(file, page)
        try:
            return page.asarray(), text
        except Exception as exc:
            if "imagecodecs" not in str(exc):  # a codec that tifffile has only with it: libtiff has most
                raise
    file.seek(0)
    return _decode_libtiff(file), text


def _decode_libtiff(file: BinaryIO) -> np.ndarray:
    """LZW, floating-point predictor and the like, through Pillow."""
    from PIL.TiffImagePlugin import TiffImageFile

    image = TiffImageFile(file)
    check_pillow(image, size_of(file) * MAX_RATIO)
    return np.asarray(image)


def read_tiff_text(file: BinaryIO) -> str | None:
    """The text of the metadata, from the header alone."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        description = tiff.pages.first.description
    return description if is_ours(description) else None
