"""Decode photographs to their stored pixels: JPEG, PNG, WebP, BMP, AVIF (Pillow) and HEIC (pillow-heif).

    file -> decode(kind, file, check) -> Stored: bands of stored pixels, profile, orientation, EXIF

Pillow holds RGB as 8 bits only. Sixteen-bit pictures are still read with its fast decoders, twice: asked for
a "big-endian" layout it keeps the high bytes, asked for a "little-endian" one the low bytes (`TwoHalves`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from prv2cli.photo.kinds import Unreadable

CheckSize = Callable[[int, int], None]  # (width, height), raises Unreadable


class Band(NamedTuple):
    """Some whole rows of stored pixels, all uint8 or all uint16."""

    colour: np.ndarray  # (n, W) grey or (n, W, C)
    alpha: np.ndarray | None  # (n, W), not premultiplied


@dataclass(frozen=True)
class Stored:
    """A picture as its file stores it: not turned upright, in its own colours."""

    width: int
    height: int
    model: str  # "L", "RGB", "CMYK" or "LAB"
    deep: bool  # uint16, else uint8
    band: Callable[[int, int], Band]  # rows y0 to y1
    icc: bytes | None = None
    orientation: int = 1  # EXIF, 1..8
    exif: Mapping[int, Any] | None = None  # the EXIF sub-IFD by tag number
    notes: tuple[str, ...] = ()
    whole: np.ndarray | None = None  # the pixels, where they already lie in one native (H, W, 3) array


def decode(kind: str, file: BinaryIO, check: CheckSize) -> Stored:
    """Decode `file` (seekable, at its start) of a `kind` that identify() returned.

    `check` is called with the width and height of the header before any pixel is decoded. Raises Unreadable,
    MemoryError, or whatever the decoder raises for a damaged file.
    """
    if kind == "TIFF":
        from prv2cli.photo.tiff import decode_tiff  # imports tifffile, which other formats do not need

        return decode_tiff(file, check)
    if kind == "HEIC":
        return _decode_heic(file, check)
    if kind == "PNG":
        return _decode_png(file, check)
    if kind == "AVIF":
        return _decode_avif(file, check)
    plugins: dict[str, type[ImageFile.ImageFile]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
    }
    image = open_pillow(plugins[kind], file, check)
    return from_pillow(image, _frames_note(image))


# --- Pillow, 8 bits ----------------------------------------------------------------------------------------


def open_pillow(plugin: type[ImageFile.ImageFile], file: BinaryIO, check: CheckSize) -> ImageFile.ImageFile:
    """Read the header with one Pillow plugin, and check the size.

    The plugin is called directly because Image.open() would judge by its own pixel limit, and would give the
    several frames of a phone's JPEG to another plugin.
    """
    file.seek(0)
    image = plugin.__new__(plugin)
    try:
        plugin.__init__(image, file)  # in two steps: a refused header still tells its size
    except SyntaxError:
        if image.mode and 0 in image.size:
            check(*image.size)
        raise
    check(*image.size)
    return image


def from_pillow(image: ImageFile.ImageFile, notes: tuple[str, ...] = ()) -> Stored:
    """Decode an opened 8-bit picture of any Pillow mode."""
    image.load()
    model, mode = _target(image)
    width, height = image.size

    def band(y0: int, y1: int) -> Band:
        strip = image.crop((0, y0, width, y1))
        pixels = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        if not mode.endswith("A"):
            return Band(pixels, None)
        return Band(pixels[..., 0] if mode == "LA" else pixels[..., :3], pixels[..., -1])

    return _with_metadata(image, Stored(width, height, model, False, band, notes=notes))


def _frames_note(image: Image.Image) -> tuple[str, ...]:
    return ("animation: only the first frame is read",) if getattr(image, "is_animated", False) else ()


def _target(image: Image.Image) -> tuple[str, str]:
    """The colour model of a Pillow picture, and the mode to convert it to ("A": with transparency)."""
    transparent = "transparency" in image.info
    if image.mode in ("1", "L", "LA", "La"):
        return "L", "LA" if transparent or image.mode in ("LA", "La") else "L"
    if image.mode in ("CMYK", "LAB"):
        return image.mode, image.mode
    if image.mode in ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr", "HSV"):
        return "RGB", "RGBA" if transparent or image.mode in ("PA", "RGBA", "RGBa") else "RGB"
    raise Unreadable(f"its pixels are of an unusual kind ({image.mode}). Save it as 8-bit or 16-bit RGB")


def _with_metadata(image: ImageFile.ImageFile, stored: Stored) -> Stored:
    """Add profile, orientation and EXIF of a loaded picture; broken EXIF is left out, with a note."""
    notes = stored.notes
    try:
        tags = image.getexif()
        orientation, exif = valid_orientation(tags.get(0x0112)), dict(tags.get_ifd(0x8769))
    except Exception:  # Pillow raises a dozen kinds for broken EXIF, and the pixels are good without it
        orientation, exif = 1, {}
        notes = (*notes, "unreadable EXIF data ignored: the picture may lie on its side")
    icc = image.info.get("icc_profile")
    icc = icc if isinstance(icc, bytes) else None
    return replace(stored, icc=icc, orientation=orientation, exif=exif, notes=notes)


def valid_orientation(value: Any) -> int:
    """An EXIF orientation 1..8; anything else means 1, as in every viewer."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decode_avif(file: BinaryIO, check: CheckSize) -> Stored:
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        AvifImagePlugin = None  # type: ignore[assignment]
    if AvifImagePlugin is None or not AvifImagePlugin.SUPPORTED:
        raise Unreadable("reading AVIF needs Pillow 11.3 or newer. Run: pip install -U pillow")
    image = open_pillow(AvifImagePlugin.AvifImageFile, file, check)
    file.seek(0)
    _, _, settings = file.read(1 << 16).partition(b"av1C")
    high_depth = len(settings) > 2 and settings[2] & 0x40
    notes = ("more than 8 bits per colour read as 8 bits",) if high_depth else ()
    return from_pillow(image, (*_frames_note(image), *notes))


# --- Sixteen bits ------------------------------------------------------------------------------------------


class TwoHalves(NamedTuple):
    """The high and the low bytes of a 16-bit picture as two loaded 8-bit Pillow pictures."""

    high: Image.Image
    low: Image.Image

    def rows(self, y0: int, y1: int) -> np.ndarray:
        """Rows y0 to y1: (n, W, C) uint16."""
        box = (0, y0, self.high.width, y1)
        pixels = np.asarray(self.high.crop(box)).astype(np.uint16)
        pixels <<= 8
        pixels |= np.asarray(self.low.crop(box))
        return pixels


def load_as(image: ImageFile.ImageFile, layout: str) -> ImageFile.ImageFile:
    """Load a picture while telling Pillow's decoder that the pixels lie in the file in `layout`."""
    tile = image.tile[0]
    args = (layout, *tile[3][1:]) if isinstance(tile[3], tuple) else layout
    image.tile = [tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)]  # type: ignore[list-item]
    image.load()
    return image


def _decode_png(file: BinaryIO, check: CheckSize) -> Stored:
    image = open_pillow(PngImagePlugin.PngImageFile, file, check)
    _check_png_chunks(file)
    layout = image.tile[0][3] if image.tile else None
    if layout not in ("I;16B", "RGB;16B", "RGBA;16B", "LA;16B"):
        return from_pillow(image, _frames_note(image))
    key = image.info.get("transparency")
    pixels = _png_pixels(file, image, layout, check)
    grey = layout in ("I;16B", "LA;16B")

    def band(y0: int, y1: int) -> Band:
        values = pixels(y0, y1)
        colour = values[..., 0] if layout == "LA;16B" else values[..., :3] if layout == "RGBA;16B" else values
        if layout in ("LA;16B", "RGBA;16B"):
            return Band(colour, values[..., -1])
        if key is None:
            return Band(colour, None)
        opaque = colour != np.asarray(key)
        return Band(colour, (opaque if grey else opaque.any(axis=-1)).astype(np.uint16) * 65535)

    stored = Stored(image.width, image.height, "L" if grey else "RGB", True, band, notes=_frames_note(image))
    return _with_metadata(image, stored)


def _png_pixels(
    file: BinaryIO, image: ImageFile.ImageFile, layout: str, check: CheckSize
) -> Callable[[int, int], np.ndarray]:
    """Load the 16-bit samples of a PNG: a function from y0, y1 to (n, W[, C]) uint16."""
    width = image.width
    if layout == "I;16B":
        image.load()
        return lambda y0, y1: np.asarray(image.crop((0, y0, width, y1))).astype(np.uint16, copy=False)
    if (
        layout == "LA;16B"
    ):  # two 16-bit samples are as long as four of 8 bits: the bytes come through as they are
        load_as(image, "RGBA")
        return lambda y0, y1: np.asarray(image.crop((0, y0, width, y1))).view(">u2").astype(np.uint16)
    second = open_pillow(PngImagePlugin.PngImageFile, file, check)
    return TwoHalves(load_as(image, layout), load_as(second, layout.replace("16B", "16L"))).rows


def _check_png_chunks(file: BinaryIO) -> None:
    """Raise ValueError unless the PNG is whole. Pillow would turn a damaged IDAT into noise."""
    file.seek(8)
    name = b""
    while name != b"IEND":
        header = file.read(8)
        if len(header) < 8:
            raise ValueError("it ends before its last chunk")
        left, name = int.from_bytes(header[:4], "big"), header[4:]
        crc = zlib.crc32(name)
        while left:
            piece = file.read(min(left, 1 << 20))
            if not piece:
                raise ValueError(f"it ends inside its {name.decode('latin-1')} chunk")
            crc, left = zlib.crc32(piece, crc), left - len(piece)
        stored_crc = file.read(4)
        if name[:1].isupper() and stored_crc != crc.to_bytes(
            4, "big"
        ):  # capital: a chunk the pixels depend on
            raise ValueError(f"checksum error in its {name.decode('latin-1')} chunk")


# --- HEIC --------------------------------------------------------------------------------------------------


def _decode_heic(file: BinaryIO, check: CheckSize) -> Stored:
    """HEIC through pillow-heif, with all its bits; libheif already turns the picture upright."""
    import pillow_heif  # an optional dependency: read_photo has made sure of it

    container = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
    heif = container[container.primary_index]
    check(*heif.size)
    info: Mapping[str, Any] = heif.info
    deep = np.asarray(heif).dtype != np.uint8  # decodes
    width, height = heif.size
    mode, bits = heif.mode.partition(";")[0], int(info.get("bit_depth", 8))

    def band(y0: int, y1: int) -> Band:
        # A new view each time keeps `heif` alive; older pillow-heif frees the pixels with it.
        values = np.asarray(heif)[y0:y1, :width]
        if deep:  # the samples stand in the upper bits; repeat them below, so that white is 65535
            values = values | (values >> bits)
        if not mode.endswith(("A", "a")):
            return Band(values, None)
        colour = values[..., 0] if mode.startswith("L") else values[..., :3]
        return (
            unpremultiplied(colour, values[..., -1]) if mode.endswith("a") else Band(colour, values[..., -1])
        )

    tags = Image.Exif()
    try:
        tags.load(info.get("exif") or b"")
        exif = dict(tags.get_ifd(0x8769))
    except Exception:  # as in _with_metadata
        exif = {}
    model = "L" if mode.startswith("L") else "RGB"
    icc, notes = info.get("icc_profile"), _heic_notes(info)
    return Stored(width, height, model, deep, band, icc=icc, exif=exif, notes=notes)


def _heic_notes(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Say it when colours are coded in a way that is not converted: HDR, or a wide gamut."""
    coding = info.get("nclx_profile")
    if info.get("icc_profile") or not isinstance(coding, Mapping):
        return ()
    if int(coding.get("transfer_characteristics", 1)) in (16, 18):  # PQ, HLG
        return ("HDR colours (PQ or HLG) read as they are, without tone mapping",)
    if int(coding.get("color_primaries", 1)) in (9, 11, 12):  # Rec. 2020, P3
        return ("wide-gamut colours without a profile read as sRGB",)
    return ()


def unpremultiplied(colour: np.ndarray, alpha: np.ndarray) -> Band:
    """A band whose colours were stored multiplied by alpha, with the colours divided by it again."""
    top = np.iinfo(colour.dtype).max
    weight = alpha if colour.ndim == 2 else alpha[..., None]
    divided = np.minimum(colour.astype(np.float32) * top / np.maximum(weight, 1), top)
    return Band(np.rint(divided).astype(colour.dtype), alpha)
