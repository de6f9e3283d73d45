"""Decode TIFF: 8-bit pictures with Pillow, 16-bit and float ones with tifffile.

tifffile alone does not undo LZW, PackBits, ZSTD and the predictor of floats: files/tiff/segments.py does.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from prv2cli.files.pictures.orientation import ORIENTATION, valid_orientation
from prv2cli.files.tiff.limits import check_expansion, check_layout, correct_counts
from prv2cli.files.tiff.pages import MOST_PAGES, SUB_DIRECTORIES, full_pages, starting_at
from prv2cli.files.tiff.segments import name_of, read_segments, readable, unpacks, whole_by_tifffile
from prv2cli.photo.formats.pillow import from_pillow, open_pillow
from prv2cli.photo.kinds import RAW_REFUSAL, Unreadable
from prv2cli.photo.stored import Band, CheckSize, Stored, unpremultiplied

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_MODELS = {_WHITE_IS_ZERO: "L", _BLACK_IS_ZERO: "L", _RGB: "RGB", _CMYK: "CMYK"}
_CHANNELS = {"L": 1, "RGB": 3, "CMYK": 4}
DEEP_TYPES = (np.uint16, np.float16, np.float32, np.float64)
_MOSAICS = frozenset((32803, 34892))  # the photometric interpretations of camera raw files
_FLOAT_SLACK = 1e-5  # rounding of other programs just outside 0..1
_BAND_VALUES = 1 << 22
# More than any byte can unpack to, by the compression: LZW, Deflate (two numbers), PackBits.
_MOST_PACKED = {5: 3000, 8: 1100, 32946: 1100, 32773: 130}


def decode_tiff(file: BinaryIO, check: CheckSize) -> Stored:
    """Decode the first page of a TIFF that is no reduced copy. See decode.decode for `check` and what is raised."""
    with tifffile.TiffFile(file) as tiff:
        page, notes = picture_page(tiff)
        check(page.imagewidth, page.imagelength)
        corrected = check_segments(page, file.seek(0, 2))
        exif = exif_of(file, page)
        icc = page.tags.valueof(34675)
        icc = bytes(icc) if isinstance(icc, (bytes, tuple)) else None
        # What was corrected Pillow does not know of.
        by_tifffile = corrected and int(page.photometric) in _MODELS and page.dtype == np.uint8
        if by_tifffile or page.dtype in DEEP_TYPES or not _pillow_unpacks(int(page.compression)):
            stored = _with_tifffile(file, page)
        else:
            stored = _with_pillow(file, page, check)
    return replace(stored, icc=icc, exif=exif, notes=(*notes, *stored.notes))


def picture_page(tiff: Any) -> tuple[Any, tuple[str, ...]]:
    """The page that is the photograph, of an open tifffile.TiffFile, and what a person should know of the others.

    Raises Unreadable for camera raw files.
    """
    first, count = tiff.pages.first, len(tiff.pages)
    full = full_pages(tiff)
    page = full[0]
    _refuse_raw(first, page)
    if page.offset != first.offset:
        return page, ("its first page is a reduced copy: the full picture behind it is read",)
    if len(full) == 1 and count <= MOST_PAGES:
        return page, ()
    largest = max(full, key=lambda other: other.imagewidth * other.imagelength)
    note = f"{count} pages: only the first is read"
    if _is_larger(largest, page):
        note += (
            f" ({page.imagewidth} x {page.imagelength}; "
            f"another is {largest.imagewidth} x {largest.imagelength})"
        )
    return page, (note,)


def _refuse_raw(first: Any, page: Any) -> None:
    """Raises Unreadable for camera raw files: TIFF inside, their first page a preview or a mosaic of sensor values.

    first, page: of tifffile, as in all of this module; the first page and the one that is to be read.
    """
    is_dng = 50706 in first.tags
    is_mosaic = not _MOSAICS.isdisjoint((int(first.photometric), int(page.photometric)))
    is_preview = first.is_reduced and SUB_DIRECTORIES in first.tags and not _is_larger(page, first)
    if is_dng or is_mosaic or is_preview:
        raise Unreadable(RAW_REFUSAL)


def _is_larger(page: Any, other: Any) -> bool:
    return bool(page.imagewidth > other.imagewidth and page.imagelength > other.imagelength)


def exif_of(file: BinaryIO, page: Any) -> dict[int, Any]:
    """The EXIF data of a page, or where it has none of the file's first page."""
    found = _read_exif(starting_at(file, page))
    return found or _read_exif(file)


def check_segments(page: Any, file_size: int) -> bool:
    """Raises ValueError unless every strip or tile lies in the file, of `file_size` bytes, and can fill the picture.

    tifffile would read the missing ones as black. Returns whether how long they are was said wrongly.
    """
    corrected = correct_counts(page, file_size)
    check_layout(page)
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(counts) < len(offsets):
        raise ValueError("strips or tiles are missing")
    if any(count <= 0 or start <= 0 or start + count > file_size for start, count in zip(offsets, counts)):  # noqa: B905
        raise ValueError("it ends before its last strip or tile")
    if page.compression in _MOST_PACKED and sum(counts) * _MOST_PACKED[page.compression] < page.size / 8:
        raise ValueError("its strips hold less than the picture")
    if page.compression == 1 and page.dtype is not None and page.bitspersample >= 8:
        samples = page.samplesperpixel if not page.is_subsampled else 1
        if sum(counts) < page.imagewidth * page.imagelength * samples * page.dtype.itemsize:
            raise ValueError("its strips hold less than the picture")
    return corrected


def _read_exif(file: BinaryIO) -> dict[int, Any]:
    """The EXIF sub-IFD of a TIFF by tag number; empty where there is none or it cannot be read. Moves the file."""
    tags = Image.Exif()
    try:
        file.seek(0)
        tags.load_from_fp(file)
        return dict(tags.get_ifd(0x8769))
    except Exception:  # Pillow raises a dozen kinds for broken EXIF, and the pixels are good without it
        return {}


def _with_pillow(file: BinaryIO, page: Any, check: CheckSize) -> Stored:
    """Up to 8 bits of any colour model and compression. Pillow turns TIFF upright by itself."""
    bits = page.bitspersample
    if not isinstance(bits, int) or bits > 8 or page.dtype is None or page.dtype.kind not in "ub":
        raise Unreadable(
            f"it stores {page.dtype or bits} values. "
            "Save it as 8-bit or 16-bit unsigned integers, or as floats in 0..1"
        )
    try:
        image = open_pillow(TiffImagePlugin.TiffImageFile, starting_at(file, page), check)
    except SyntaxError:
        if page.dtype != np.uint8:
            raise
        return _with_tifffile(file, page)  # more channels than Pillow knows, for instance
    return from_pillow(image)


def _pillow_unpacks(compression: int) -> bool:
    """Whether the libtiff inside Pillow is known to undo a compression of 8-bit pictures."""
    return compression in TiffImagePlugin.COMPRESSION_INFO and unpacks(compression)


def _with_tifffile(file: BinaryIO, page: Any) -> Stored:
    """Grey, RGB and CMYK with whole-byte samples of any compression that can be undone."""
    if not (whole_by_tifffile(page) or readable(page)):
        raise Unreadable(_not_undone(page))
    model = _MODELS.get(int(page.photometric))
    if (
        model is None
        or page.samplesperpixel < _CHANNELS[model]
        or page.bitspersample != 8 * page.dtype.itemsize
    ):
        kind = getattr(page.photometric, "name", page.photometric)
        raise Unreadable(f"its colours are stored as {kind} with {page.bitspersample} bits. Save it as RGB")
    orientation = valid_orientation(page.tags.valueof(ORIENTATION))
    notes: list[str] = []
    check_expansion(file, page)
    # (planes, depth, H, W, samples)
    pixels = page.asarray(squeeze=False) if whole_by_tifffile(page) else read_segments(file, page)
    pixels = np.moveaxis(pixels[:, 0], 0, -2)  # (H, W, planes, samples)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    pixels = np.asarray(pixels, pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind == "f":
        pixels = _float_to_16_bits(pixels)
        notes.append("float values 0..1 scaled to 16 bits")
    return _stored(page, model, pixels, orientation, notes)


def _not_undone(page: Any) -> str:
    """Why a page's pixels cannot be unpacked. The package imagecodecs has about every codec of TIFF."""
    fix = "Save it without compression or with Deflate (ZIP)"
    if importlib.util.find_spec("imagecodecs") is None:
        fix += ", or run: pip install imagecodecs"
    name = name_of(page.compression)
    return f"it stores {page.dtype} values compressed with {name} in a way that is not read here. {fix}"


def _stored(page: Any, model: str, pixels: np.ndarray, orientation: int, notes: list[str]) -> Stored:
    """Sort the channels of `pixels` (H, W, C), uint8 or uint16, into colour and alpha."""
    count = _CHANNELS[model]
    extras = pixels.shape[2] - count
    kinds = [int(kind) for kind in page.extrasamples] or [2] * extras
    alpha_at = next((count + i for i, kind in enumerate(kinds[:extras]) if kind in (1, 2)), None)
    unused = extras - (alpha_at is not None)
    if unused:
        notes.append(f"{unused} channel{'s' if unused > 1 else ''} beyond the colours ignored")
    if model == "CMYK" and pixels.dtype != np.uint8:
        notes.append("16-bit CMYK converted with 8 bits")
    inverted = int(page.photometric) == _WHITE_IS_ZERO
    associated = alpha_at is not None and kinds[alpha_at - count] == 1

    def band(y0: int, y1: int) -> Band:
        values = pixels[y0:y1]
        colour = values[..., 0] if model == "L" else values[..., :count]
        colour = ~colour if inverted else colour
        if alpha_at is None:
            return Band(colour, None)
        return (unpremultiplied if associated else Band)(colour, values[..., alpha_at])

    height, width = pixels.shape[:2]
    whole = pixels if model == "RGB" and pixels.shape[2] == 3 else None
    deep = pixels.dtype != np.uint8
    return Stored(width, height, model, deep, band, orientation=orientation, notes=tuple(notes), whole=whole)


def _float_to_16_bits(pixels: np.ndarray) -> np.ndarray:
    """0..1 to 0..65535, a band at a time; refuses values outside, because their scale is anyone's guess."""
    out = np.empty(pixels.shape, np.uint16)
    step = max(1, _BAND_VALUES // math.prod(pixels.shape[1:]))
    for y in range(0, len(pixels), step):
        part = pixels[y : y + step].astype(np.float32)
        low, high = float(part.min()), float(part.max())  # NaN goes through min and max
        if not (low >= -_FLOAT_SLACK and high <= 1 + _FLOAT_SLACK):
            found = "NaN (not a number)" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
            raise Unreadable(
                f"its float values are not in 0..1 (found {found}). Scale them to 0..1 and save it again"
            )
        out[y : y + step] = np.rint(np.clip(part, 0, 1) * 65535)
    return out
