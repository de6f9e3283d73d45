"""Decode TIFF: 8-bit pictures with Pillow, 16-bit and float ones with tifffile.

tifffile alone does not undo LZW, PackBits and some others; 16-bit pictures that use these go through Pillow's
libtiff instead, in two halves.
"""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from prv2cli.files.tiff_limits import check_expansion, check_layout
from prv2cli.photo.formats.pillow import from_pillow, open_pillow
from prv2cli.photo.formats.two_halves import TwoHalves, load_as
from prv2cli.photo.kinds import RAW_REFUSAL, Unreadable
from prv2cli.photo.stored import Band, CheckSize, Stored, unpremultiplied, valid_orientation

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_MODELS = {_WHITE_IS_ZERO: "L", _BLACK_IS_ZERO: "L", _RGB: "RGB", _CMYK: "CMYK"}
_CHANNELS = {"L": 1, "RGB": 3, "CMYK": 4}
_FLOAT_SLACK = 1e-5  # rounding of other programs just outside 0..1
_BAND_VALUES = 1 << 22
# More than any byte can unpack to, by the compression: LZW, Deflate (two numbers), PackBits.
_MOST_PACKED = {5: 3000, 8: 1100, 32946: 1100, 32773: 130}


def decode_tiff(file: BinaryIO, check: CheckSize) -> Stored:
    """Decode the first page of a TIFF. See decode.decode for `check` and what is raised."""
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        refuse_raw(page)
        check(page.imagewidth, page.imagelength)
        pages = len(tiff.pages)
        notes = (f"{pages} pages: only the first is read",) if pages > 1 else ()
        check_segments(page, file.seek(0, 2))
        exif = read_exif(file)
        icc = page.tags.valueof(34675)
        icc = bytes(icc) if isinstance(icc, (bytes, tuple)) else None
        if page.dtype not in (np.uint16, np.float16, np.float32, np.float64):
            stored = _with_pillow(file, page, check)
        else:
            stored = _with_tifffile(file, page, check)
    return replace(stored, icc=icc, exif=exif, notes=(*notes, *stored.notes))


def refuse_raw(page: Any) -> None:
    """Raises Unreadable for camera raw files: TIFF inside, their first page a preview or a mosaic of sensor values.

    page: tifffile's, as in all of this module.
    """
    is_dng = 50706 in page.tags
    is_mosaic = int(page.photometric) in (32803, 34892)
    is_preview = page.subfiletype & 1 and 330 in page.tags
    if is_dng or is_mosaic or is_preview:
        raise Unreadable(RAW_REFUSAL)


def check_segments(page: Any, file_size: int) -> None:
    """Raises ValueError unless every strip or tile lies in the file, of `file_size` bytes, and can fill the picture.

    tifffile would read the missing ones as black.
    """
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


def read_exif(file: BinaryIO) -> dict[int, Any]:
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
        image = open_pillow(TiffImagePlugin.TiffImageFile, file, check)
    except SyntaxError:
        if page.dtype != np.uint8:
            raise
        return _with_tifffile(file, page, check)  # more channels than Pillow knows, for instance
    return from_pillow(image)


def _with_tifffile(file: BinaryIO, page: Any, check: CheckSize) -> Stored:
    """Grey, RGB and CMYK with whole-byte samples of any compression that can be undone."""
    model = _MODELS.get(int(page.photometric))
    if (
        model is None
        or page.samplesperpixel < _CHANNELS[model]
        or page.bitspersample != 8 * page.dtype.itemsize
    ):
        kind = getattr(page.photometric, "name", page.photometric)
        raise Unreadable(f"its colours are stored as {kind} with {page.bitspersample} bits. Save it as RGB")
    orientation = valid_orientation(page.tags.valueof(274))
    notes: list[str] = []
    check_expansion(file, page)
    try:
        pixels = page.asarray(squeeze=False)  # (planes, depth, H, W, samples)
    except (ValueError, KeyError) as error:
        if "imagecodecs" not in str(error):
            raise
        return _halves_with_pillow(file, page, model, check)
    pixels = np.moveaxis(pixels[:, 0], 0, -2)  # (H, W, planes, samples)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    pixels = np.asarray(pixels, pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind == "f":
        pixels = _float_to_16_bits(pixels)
        notes.append("float values 0..1 scaled to 16 bits")
    return _stored(page, model, pixels, orientation, notes)


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


def _halves_with_pillow(file: BinaryIO, page: Any, model: str, check: CheckSize) -> Stored:
    """LZW, PackBits and the like. libtiff gives native byte order: that layout has the high bytes."""
    image = None
    if page.dtype == np.uint16 and (page.planarconfig == 1 or page.samplesperpixel == 1):
        with suppress(SyntaxError):  # a layout that Pillow does not know
            image = open_pillow(TiffImagePlugin.TiffImageFile, file, check)
    args = image.tile[0][3] if image and len(image.tile) == 1 else ()
    layout = args[0] if isinstance(args, tuple) and args else ""
    if image is not None and layout in ("I;16N", "I;16", "I;16B"):
        image.load()
        pixels = np.asarray(image).astype(np.uint16)[..., None]
        return _stored(page, model, pixels, 1, [])
    layout = layout.replace("RGBa", "RGBA")  # _stored undoes the multiplication by alpha, with all bits
    if image is None or layout not in ("RGB;16N", "RGBA;16N", "RGBX;16N"):
        name = getattr(page.compression, "name", page.compression)
        raise Unreadable(
            f"it stores {page.dtype} values compressed with {name} in a way that is not read here. "
            "Save it without compression or with Deflate (ZIP), or run: pip install imagecodecs"
        )
    other = "16B" if sys.byteorder == "little" else "16L"
    second = open_pillow(TiffImagePlugin.TiffImageFile, file, check)
    halves = TwoHalves(load_as(image, layout), load_as(second, layout.replace("16N", other)))
    pixels = halves.rows(0, halves.high.height)
    return _stored(page, model, pixels, 1, [])
