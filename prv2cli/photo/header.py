"""What the header of a photograph tells before anything is decoded: its size, its bits, what its decoder will hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from prv2cli.files.pictures.orientation import (
    ORIENTATION,
    orientation_of,
    orientation_of_png,
    valid_orientation,
)
from prv2cli.photo.formats import png
from prv2cli.photo.formats.heif import open_heic
from prv2cli.photo.formats.jpeg import bands as jpeg_bands
from prv2cli.photo.formats.pillow import open_pillow
from prv2cli.photo.opening import MAX_PIXELS_DEFAULT, kind_of, label_of, opened, readable, size_check
from prv2cli.photo.stored import CheckSize

_RUN = 16  # a run of strips: as stored, as decoded, as sRGB, and once more on the way between them


@dataclass(frozen=True)
class Header:
    """A photograph that was not decoded yet. Sizes in pixels of the upright picture, memory in bytes."""

    name: str
    kind: str
    width: int
    height: int
    deep: bool  # 16 bits
    decoding: int  # what the decoder holds of the whole picture
    decoding_bands: int  # the same where it is read in bands

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def rgb_bytes(self) -> int:
        """The photograph as the refiner reads it."""
        return self.pixels * (6 if self.deep else 3)


def read_header(
    source: Path | BinaryIO, *, max_pixels: int = MAX_PIXELS_DEFAULT, name: str | None = None
) -> Header:
    """Size and kind of the photograph in a file or stream, without decoding it. Raises what read.read_photo raises."""
    label = name or label_of(source)
    with readable(label), opened(source, label) as file:
        kind = kind_of(file, label)
        return _HEADERS.get(kind, _other_header)(label, kind, file, size_check(max_pixels))


def _jpeg_header(name: str, kind: str, file: BinaryIO, check: CheckSize) -> Header:
    image: Any = open_pillow(JpegImagePlugin.JpegImageFile, file, check)
    picture, coefficients = 1.0 if image.mode == "L" else 4.0, 0.0
    if image.info.get("progressive"):  # all coefficients of all components, 16 bits each, until the last scan
        most = max(h for _, h, _, _ in image.layer) * max(v for _, _, v, _ in image.layer)
        coefficients = sum(2 * h * v / most for _, h, v, _ in image.layer)
    # In bands the picture lies on disk, where the photograph's other files come later and take more.
    in_bands = coefficients if coefficients and jpeg_bands.POSSIBLE else picture + coefficients
    return _header(name, kind, image, False, picture + coefficients, in_bands)


def _png_header(name: str, kind: str, file: BinaryIO, check: CheckSize) -> Header:
    image: Any = open_pillow(PngImagePlugin.PngImageFile, file, check)
    layout = image.tile[0][3] if image.tile else None
    held = 8 if layout in png.TWICE else _pillow_bytes(image.mode)
    return _header(
        name, kind, image, layout in png.DEEP_LAYOUTS, held, orientation=orientation_of_png(image, file)
    )


def _other_header(name: str, kind: str, file: BinaryIO, check: CheckSize) -> Header:
    """BMP; WebP, AVIF and HEIC, whose libraries hold the picture once more."""
    if kind == "BMP":
        image: Any = open_pillow(BmpImagePlugin.BmpImageFile, file, check)
        return _header(name, kind, image, False, _pillow_bytes(image.mode))
    if kind == "WebP":
        return _header(name, kind, open_pillow(WebPImagePlugin.WebPImageFile, file, check), False, 12)
    if kind == "HEIC":
        heif = open_heic(file)
        width, height = heif.size
        check(width, height)
        deep = int(heif.info.get("bit_depth", 8)) > 8
        decoding = width * height * (16 if deep else 8)
        return Header(name, kind, width, height, deep, decoding, decoding)
    from PIL import AvifImagePlugin

    return _header(name, kind, open_pillow(AvifImagePlugin.AvifImageFile, file, check), False, 12)


def _tiff_header(name: str, kind: str, file: BinaryIO, check: CheckSize) -> Header:
    import tifffile

    from prv2cli.photo.formats.tiff import DEEP_TYPES, picture_page
    from prv2cli.photo.formats.tiff_bands import run_pixels

    with tifffile.TiffFile(file) as tiff:
        page, _ = picture_page(tiff)
        width, height = page.imagewidth, page.imagelength
        check(width, height)
        deep = page.dtype in DEEP_TYPES
        if deep:  # float values are scaled into a second array
            per_pixel = page.samplesperpixel * (page.dtype.itemsize + (2 if page.dtype.kind == "f" else 0))
        else:
            per_pixel = _pillow_bytes("RGB" if page.samplesperpixel > 1 else "L")
        run = run_pixels(page)
        if valid_orientation(page.tags.valueof(ORIENTATION)) >= 5:
            width, height = height, width
    whole = page.imagewidth * page.imagelength * per_pixel
    banded = whole if run == page.imagewidth * page.imagelength else run * _RUN * (2 if deep else 1)
    return Header(name, kind, width, height, deep, whole, banded)


_HEADERS = {"JPEG": _jpeg_header, "PNG": _png_header, "TIFF": _tiff_header}


def _pillow_bytes(mode: str) -> int:
    return 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4


def _header(
    name: str,
    kind: str,
    image: Any,
    deep: bool,
    bytes_per_pixel: float,
    in_bands: float | None = None,
    orientation: int | None = None,
) -> Header:
    """`bytes_per_pixel`: what decoding holds; `in_bands`: the same where it is read in bands, if that differs."""
    width, height = image.size
    orientation = orientation_of(image) if orientation is None else orientation
    decoding = round(width * height * bytes_per_pixel)
    banded = decoding if in_bands is None else round(width * height * in_bands)
    if orientation >= 5:
        width, height = height, width
    return Header(name, kind, width, height, deep, decoding, banded)
