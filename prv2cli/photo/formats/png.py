"""PNG: whole rows only, 16 bits a colour as they are, and the colours that its chunks state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL import ImageFile, PngImagePlugin

from prv2cli.files.pictures.png_chunks import chunks, sound_png
from prv2cli.files.pictures.two_halves import TwoHalves, load_as
from prv2cli.photo.colour.coded import SRGB, SRGB_CURVE, Coded, Curve, from_code, icc_profile
from prv2cli.photo.formats.pillow import frames_note, from_pillow, open_pillow, with_metadata
from prv2cli.photo.stored import Band, CheckSize, Stored

# Pillow's names of 16 bits a channel; those that it holds as 8 bits are decoded twice.
TWICE = ("RGB;16B", "RGBA;16B")
DEEP_LAYOUTS = ("I;16B", "LA;16B", *TWICE)
_SRGB_GAMMA, _GAMMA_SLACK = 2.2, 0.05
_GAMMAS = (0.1, 10.0)  # others are no gammas but mistakes
_NEAR = 0.006  # of coordinates of primaries


def decode_png(file: BinaryIO, check: CheckSize) -> Stored:
    """See decode.decode."""
    sound, notes = _sound(file, check)
    image = open_pillow(PngImagePlugin.PngImageFile, sound, check)
    stored = _decoded(sound, image, check)
    coded = _coded_colours(sound, image, grey=stored.model == "L")
    icc = stored.icc if coded is None else coded.icc
    return replace(stored, icc=icc, notes=(*stored.notes, *notes, *(coded.notes if coded else ())))


def _sound(file: BinaryIO, check: CheckSize) -> tuple[BinaryIO, tuple[str, ...]]:
    """A picture of an impossible size is refused for that, whatever else is wrong with it."""
    file.seek(16)
    size = file.read(8)
    if len(size) == 8:
        check(int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big"))
    return sound_png(file)


def _decoded(file: BinaryIO, image: ImageFile.ImageFile, check: CheckSize) -> Stored:
    layout = image.tile[0][3] if image.tile else None
    if layout not in DEEP_LAYOUTS:
        return from_pillow(image, frames_note(image))
    key = image.info.get("transparency")
    pixels = _pixels(file, image, layout, check)
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

    stored = Stored(image.width, image.height, "L" if grey else "RGB", True, band, notes=frames_note(image))
    return with_metadata(image, stored)


def _pixels(
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
    return TwoHalves.of(image, second, layout).rows


def _coded_colours(file: BinaryIO, image: ImageFile.ImageFile, *, grey: bool) -> Coded | None:
    """What chunks say of the colours: cICP before iCCP, sRGB, gAMA and cHRM. None: nothing, or a profile."""
    code = _cicp(file)
    if code is not None:
        found = from_code(*code)
        if found is not None and not (grey and found.icc):
            return found
    if image.info.get("icc_profile") or "srgb" in image.info:
        return None
    return _from_gamma(image.info.get("gamma"), image.info.get("chromaticity"), grey=grey)


def _cicp(file: BinaryIO) -> tuple[int, int] | None:
    """Primaries and transfer of the cICP chunk, which stands before the pixels."""
    for chunk in chunks(file):
        if chunk.name == b"IDAT":
            return None
        if chunk.name == b"cICP" and chunk.sound and chunk.size == 4:
            file.seek(chunk.start)
            primaries, transfer = file.read(2)
            return primaries, transfer
    return None


def _from_gamma(gamma: Any, corners: Any, *, grey: bool) -> Coded | None:
    """A gamma near that of sRGB means sRGB, as do primaries near its own: the chunks round."""
    gamma = gamma if isinstance(gamma, float) and _GAMMAS[0] <= gamma <= _GAMMAS[1] else None
    primaries = SRGB
    if isinstance(corners, tuple) and len(corners) == 8 and not grey:
        stated = tuple(map(float, corners))
        if max(abs(a - b) for a, b in zip(stated, SRGB, strict=True)) > _NEAR:
            primaries = stated  # type: ignore[assignment]
    is_srgb_curve = gamma is None or abs(gamma * _SRGB_GAMMA - 1) < _GAMMA_SLACK
    if is_srgb_curve and primaries == SRGB:
        return None
    curve: Curve = SRGB_CURVE if is_srgb_curve or gamma is None else (1 / gamma,)
    name = "linear light" if curve == (1.0,) else f"gamma {1 / gamma:.4g}" if gamma else "primaries"
    try:
        return Coded(icc_profile(primaries, curve, f"PNG: {name}", grey=grey))
    except ValueError as error:
        return Coded(None, (f"colours that the file states are ignored ({error})",))
