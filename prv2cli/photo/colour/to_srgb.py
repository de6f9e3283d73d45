"""Colours of a decoded picture to sRGB, a band of rows at a time.

LittleCMS does the work at 8 bits. Pillow gives it no 16-bit RGB, so 16-bit pictures with the usual matrix and
curve profiles (Adobe RGB, Display P3, ProPhoto, Rec. 2020, grey gammas) are converted here in closed form,
after a check that this agrees with LittleCMS. Other 16-bit pictures fall to 8 bits, and a note says so.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from prv2cli.photo.colour.exact import Convert, as_rgb, exact_conversion
from prv2cli.photo.levels import to_8_bits

_MODEL_OF_SPACE = {"RGB": ("RGB", "L"), "GRAY": ("L",), "CMYK": ("CMYK",)}
_DARK_GREYS = 16


@dataclass(frozen=True)
class ToSrgb:
    """How to bring bands of a picture to sRGB: `convert` takes (n, W[, C]) and returns (n, W, 3)."""

    convert: Convert
    deep: bool  # the result is uint16, else uint8
    notes: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether colours stay as they are (grey is still repeated to three channels)."""
        return self.convert is as_rgb


def plan_srgb(icc: bytes | None, model: str, deep: bool) -> ToSrgb:
    """Choose the conversion for a picture of colour model "L", "RGB", "CMYK" or "LAB" with profile `icc`.

    Never fails because of the profile: one that cannot be used is left out, and a note says so.
    """
    if not icc:
        return _without_profile(model, deep)
    try:
        return _with_profile(icc, model, deep)
    except Exception as error:  # any bytes can be in a profile, and LittleCMS may be missing altogether
        reason = str(error).partition("\n")[0] or type(error).__name__
        plain = _without_profile(model, deep)
        note = f"embedded colour profile ignored ({reason[:80]})"
        return ToSrgb(plain.convert, plain.deep, (note, *plain.notes))


def _without_profile(model: str, deep: bool) -> ToSrgb:
    if model == "CMYK":
        note = "CMYK without a colour profile converted by the simple formula: colours are approximate"
        return ToSrgb(lambda strip: np.asarray(_image(strip, "CMYK").convert("RGB")), False, (note,))
    if model == "LAB":
        transform = _transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")
        return ToSrgb(_through_pillow(transform, "LAB"), False, ("CIELab colours converted to sRGB",))
    return ToSrgb(as_rgb, deep)


def _with_profile(icc: bytes, model: str, deep: bool) -> ToSrgb:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    name = (ImageCms.getProfileDescription(profile).strip() or "without a name")[:60]
    if model not in _MODEL_OF_SPACE.get(space, ()):
        raise ValueError(f"{name!r} is for {space} pictures, not {model}")
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[space]
    shallow = _through_pillow(_transform(profile, mode), mode)
    if mode != "CMYK" and _is_srgb(shallow, mode):
        return ToSrgb(as_rgb, deep)
    note = f"colour profile {name!r} converted to sRGB"
    if not deep:
        return ToSrgb(shallow, False, (note,))
    exact = exact_conversion(icc, mode)
    if exact is not None and _agree(exact, shallow, mode):
        return ToSrgb(exact, True, (note,))
    return ToSrgb(shallow, False, (f"{note} with 8 bits, because it is not a simple matrix profile",))


# --- LittleCMS, 8 bits -------------------------------------------------------------------------------------


def _image(strip: np.ndarray, mode: str) -> Image.Image:
    """A band as a Pillow image of `mode`; 16-bit values are rounded to 8 bits."""
    if strip.dtype != np.uint8:
        strip = to_8_bits(strip)
    if mode == "RGB":
        strip = as_rgb(strip)
    return Image.frombytes(mode, (strip.shape[1], strip.shape[0]), strip.tobytes())


def _transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.buildTransform(
        profile,
        srgb,
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _through_pillow(transform: ImageCms.ImageCmsTransform, mode: str) -> Convert:
    def convert(strip: np.ndarray) -> np.ndarray:
        return np.asarray(transform.apply(_image(strip, mode)))

    return convert


def _probe(mode: str) -> np.ndarray:
    """A small uint8 picture that spans the colours of `mode`: (1, 256) greys or a (1, 729, 3) lattice."""
    if mode == "L":
        return np.arange(256, dtype=np.uint8)[None]
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)


def _is_srgb(convert: Convert, mode: str) -> bool:
    """Whether the conversion changes nothing: a surer sign of sRGB than any profile's name."""
    probe = _probe(mode)
    return _largest_difference(convert(probe), as_rgb(probe)) <= 1


def _largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(np.int32) - b.astype(np.int32)).max())


# --- Closed form, 16 bits ----------------------------------------------------------------------------------


def _agree(exact: Convert, shallow: Convert, mode: str) -> bool:
    probe = _probe(mode)
    if mode == "L":  # near black LittleCMS has few steps for greys of linear light
        probe = probe[:, _DARK_GREYS:]
    return _largest_difference(to_8_bits(exact(probe.astype(np.uint16) * 257)), shallow(probe)) <= 2
