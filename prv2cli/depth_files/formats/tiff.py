"""TIFF: 16-bit integers or float32, deflated. The metadata is the ImageDescription; TIFFs by others are read widely.

Giant maps are tiled BigTIFFs: what viewers of giant pictures (QGIS, GDAL, vips) read piece by piece.
"""

from __future__ import annotations

import importlib.util
import io
import math
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from prv2cli.depth_files.formats.checks import COLOUR, MAX_RATIO, Decoded, check, equal_to, size_of
from prv2cli.depth_files.formats.rows import FLOAT_LEVEL, INTEGER_LEVEL, Rows
from prv2cli.depth_files.ours.metadata import is_ours
from prv2cli.errors import InputError
from prv2cli.files.pictures.orientation import ORIENTATION, turn, valid_orientation
from prv2cli.files.tiff.limits import check_expansion, check_layout, correct_counts
from prv2cli.files.tiff.pages import MOST_PAGES, full_pages, mask_pages

_BIGTIFF_BYTES = 4_000_000_000  # a classic TIFF ends at 2**32; leave room for what does not compress
_TILE = 512
_GDAL_METADATA, _GDAL_NODATA = 42112, 42113


def encode_tiff(file: BinaryIO, rows: Rows, text: str) -> None:
    """Deflate with the horizontal predictor on the 16- or 32-bit patterns; BigTIFF where it may pass 4 GB.

    tifffile has no predictor for floats without its optional codecs, and neither do its readers. The one for
    integers is lossless on the same bits and libtiff, tifffile and OpenCV all undo it: so floats are written
    as integers, and the tag that says how to read the bits is corrected afterwards.
    """
    height, width = rows.shape
    big = height * width * rows.dtype.itemsize > _BIGTIFF_BYTES
    write_tiff(file, rows, map(compress_differences, rows), text, bigtiff=big, rowsperstrip=rows.per_band)


def encode_tiled_tiff(file: BinaryIO, rows: Rows, text: str) -> None:
    """As encode_tiff, with the same numbers, in tiles of 512 x 512 pixels. `file` seeks and reads.

    Floats are written as integers with their predictor, for the reasons that encode_tiff gives.
    """
    write_tiff(file, rows, map(compress_differences, _tiles(rows)), text, bigtiff=True, tile=(_TILE, _TILE))


def _tiles(rows: Rows) -> Iterator[np.ndarray]:
    for band in _tile_rows(rows):
        for left in range(0, rows.shape[1], _TILE):
            part = band[:, left : left + _TILE]
            tile = np.zeros((_TILE, _TILE), part.dtype)  # beyond the picture: zeros
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _tile_rows(rows: Rows) -> Iterator[np.ndarray]:
    """The stored numbers, 512 rows at a time; fewer at the end."""
    waiting: list[np.ndarray] = []
    count = 0
    for band in rows:
        waiting.append(band)
        count += len(band)
        if count >= _TILE:
            joined = np.concatenate(waiting)
            for top in range(0, count - _TILE + 1, _TILE):
                yield joined[top : top + _TILE]
            waiting, count = [joined[count - count % _TILE :]], count % _TILE
    if count:
        yield np.concatenate(waiting)


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
    """The only page that is no reduced copy or mask, upright. GDAL's no-data value and mask pages are holes.

    Where GDAL's scale and offset stand in it, the numbers are those that they make of the stored ones.
    """
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        count = len(tiff.pages)  # counting is fast, looking at each of 16,000 is not
        if count > MOST_PAGES:
            raise InputError(f"a TIFF of {count} pages; a depth map is one")
        pages = full_pages(tiff)
        if len(pages) != 1:
            sizes = ", ".join(f"{page.imagewidth} x {page.imagelength}" for page in pages[:4])
            raise InputError(f"a TIFF of {len(pages)} pages ({sizes}); a depth map is one")
        page: Any = pages[0]
        numbers, clear = _numbers(file, page)
        masks = [_channels(file, mask)[0] != 0 for mask in _masks_of(page, tiff)]
        holes = _holes(page, numbers, masks if clear is None else [*masks, ~clear])
        text = page.description if is_ours(page.description) else None
        orientation = valid_orientation(page.tags.valueof(ORIENTATION))
        numbers, notes = _scaled(numbers, page.tags.valueof(_GDAL_METADATA))
    return Decoded(
        turn(numbers, orientation), text, None if holes is None else turn(holes, orientation), notes
    )


def _scaled(numbers: np.ndarray, told: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """The numbers that GDAL's metadata says the stored ones stand for, float32, and a note of it."""
    scale, offset = (_of_the_band(told, role, usual) for role, usual in (("scale", 1.0), ("offset", 0.0)))
    if (scale, offset) == (1.0, 0.0) or scale == 0:
        return numbers, ()
    note = f"its stored numbers are taken times {scale:g} plus {offset:g}, as it says itself (GDAL)"
    return (numbers * np.float64(scale) + offset).astype(np.float32), (note,)


def _of_the_band(told: object, role: str, usual: float) -> float:
    """A finite number of the first band from GDAL's XML; the usual one where there is none."""
    try:
        items = list(ElementTree.fromstring(str(told).strip("\0 \t\n"))) if told else []
        texts = [i.text for i in items if i.get("role") == role and i.get("sample", "0") == "0"]
        found = float(texts[0] or "") if texts else usual
    except (ElementTree.ParseError, ValueError):
        return usual
    return found if math.isfinite(found) else usual


def _numbers(file: BinaryIO, page: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The numbers (H, W) of a page as they are stored, and where it is clear. Refuses what is no depth.

    Three equal colours, as compositors write grey, are one.
    """
    if page.dtype is None:
        raise InputError(f"{page.bitspersample}-bit samples; use 16-bit integers or 32-bit floats")
    shape = _without_single_planes(page)
    as_colour = page.samplesperpixel in (3, 4) and len(shape) == 3 and page.dtype.itemsize > 1
    check(shape[:2] if as_colour else shape, page.dtype, size_of(file) * MAX_RATIO)
    first, *others = _channels(file, page)
    is_float = first.dtype.kind == "f"
    if not all(np.array_equal(first, other, equal_nan=is_float) for other in others[:2]):
        raise InputError(COLOUR)
    return first, others[2] == 0 if len(others) == 3 else None


def _channels(file: BinaryIO, page: Any) -> list[np.ndarray]:
    """The samples of a page, (H, W) each."""
    from prv2cli.files.tiff.segments import name_of, read_segments, readable, whole_by_tifffile

    correct_counts(page, size_of(file))
    check_layout(page)
    check_expansion(file, page)
    if whole_by_tifffile(page):
        pixels = page.asarray(squeeze=False)
    elif readable(page):
        pixels = read_segments(file, page)
    else:
        fix = "save it without compression or with Deflate (ZIP)"
        if importlib.util.find_spec("imagecodecs") is None:
            fix += ", or run: pip install imagecodecs"
        raise InputError(
            f"{page.dtype} numbers compressed with {name_of(page.compression)}, which is not read here; {fix}"
        )
    samples = page.samplesperpixel
    planes, beside = (samples, 1) if page.planarconfig == 2 else (1, samples)
    apart = np.asarray(pixels).reshape(planes, page.imagelength, page.imagewidth, beside)
    return [apart[plane, ..., sample] for plane in range(planes) for sample in range(beside)]


def _without_single_planes(page: Any) -> tuple[int, ...]:
    """The shape of a page without axes of length 1 beside height and width."""
    samples = () if page.samplesperpixel == 1 else (int(page.samplesperpixel),)
    depth = () if page.imagedepth == 1 else (int(page.imagedepth),)
    return (*depth, int(page.imagelength), int(page.imagewidth), *samples)


def _masks_of(page: Any, tiff: Any) -> list[Any]:
    """The pages of one bit or byte a pixel that say which pixels of `page` count."""
    size = (page.imagelength, page.imagewidth)
    return [
        mask
        for mask in mask_pages(tiff)
        if (mask.imagelength, mask.imagewidth) == size
        and mask.samplesperpixel == 1
        and mask.dtype is not None
    ]


def _holes(page: Any, numbers: np.ndarray, masks: list[np.ndarray]) -> np.ndarray | None:
    """Where the file itself says that there is nothing."""
    text = page.tags.valueof(_GDAL_NODATA)
    holes = equal_to(numbers, text.strip("\0 \t\n")) if isinstance(text, str) else None
    for mask in masks:
        holes = ~mask if holes is None else holes | ~mask
    return holes


def read_tiff_text(file: BinaryIO) -> str | None:
    """The text of the metadata, from the header alone."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        description = full_pages(tiff)[0].description
    return description if is_ours(description) else None
