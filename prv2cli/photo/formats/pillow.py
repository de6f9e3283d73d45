"""Pictures of 8 bits a colour, through Pillow: JPEG, WebP, BMP, AVIF, and the PNGs and TIFFs of that depth."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from prv2cli.files.pictures.orientation import ORIENTATION, valid_orientation
from prv2cli.photo.colour.coded import from_code
from prv2cli.photo.kinds import Unreadable
from prv2cli.photo.stored import Band, CheckSize, Stored


def decode_8_bits(plugin: type[ImageFile.ImageFile], file: BinaryIO, check: CheckSize) -> Stored:
    """Decode with one Pillow plugin. See decode.decode for `check` and what is raised."""
    image = open_pillow(plugin, file, check)
    return from_pillow(image, frames_note(image))


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

    return with_metadata(image, Stored(width, height, model, False, band, notes=notes))


def frames_note(image: Image.Image) -> tuple[str, ...]:
    """What a person should know of an animation."""
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


def with_metadata(image: ImageFile.ImageFile, stored: Stored) -> Stored:
    """Add profile, orientation and EXIF of a loaded picture; broken EXIF is left out, with a note."""
    notes = stored.notes
    try:
        tags = image.getexif()
        orientation, exif = valid_orientation(tags.get(ORIENTATION)), dict(tags.get_ifd(0x8769))
    except Exception:  # Pillow raises a dozen kinds for broken EXIF, and the pixels are good without it
        orientation, exif = 1, {}
        notes = (*notes, "unreadable EXIF data ignored: the picture may lie on its side")
    icc = image.info.get("icc_profile")
    icc = icc if isinstance(icc, bytes) else None
    return replace(stored, icc=icc, orientation=orientation, exif=exif, notes=notes)


def decode_avif(file: BinaryIO, check: CheckSize) -> Stored:
    """AVIF, where Pillow reads it."""
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        AvifImagePlugin = None  # type: ignore[assignment]
    if AvifImagePlugin is None or not AvifImagePlugin.SUPPORTED:
        raise Unreadable("reading AVIF needs Pillow 11.3 or newer. Run: pip install -U pillow")
    image = open_pillow(AvifImagePlugin.AvifImageFile, file, check)
    file.seek(0)
    head = file.read(1 << 16)
    settings = head.partition(b"av1C")[2]
    high_depth = len(settings) > 2 and settings[2] & 0x40
    notes = ("more than 8 bits per colour read as 8 bits",) if high_depth else ()
    stored = from_pillow(image, (*frames_note(image), *notes))
    code = head.partition(b"colrnclx")[2][:4]  # primaries and transfer, which Pillow does not tell
    said = len(code) == 4 and stored.icc is None and stored.model == "RGB"
    coded = from_code(*struct.unpack(">HH", code)) if said else None
    return stored if coded is None else replace(stored, icc=coded.icc, notes=(*stored.notes, *coded.notes))
