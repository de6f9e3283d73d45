"""Colours of a decoded picture to sRGB, a band of rows at a time.

LittleCMS does the work at 8 bits. Pillow gives it no 16-bit RGB, so 16-bit pictures with the usual matrix and
curve profiles (Adobe RGB, Display P3, ProPhoto, Rec. 2020, grey gammas) are converted here in closed form,
after a check that this agrees with LittleCMS. Other 16-bit pictures fall to 8 bits, and a note says so.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

Convert = Callable[[np.ndarray], np.ndarray]

# XYZ of the sRGB primaries, adapted to the D50 white of ICC profiles (columns R, G, B).
SRGB_TO_XYZ = np.array(
    [[0.4360413, 0.3851129, 0.1430458], [0.2224845, 0.7169051, 0.0606104], [0.0139202, 0.0970672, 0.7139126]]
)
_MODEL_OF_SPACE = {"RGB": ("RGB", "L"), "GRAY": ("L",), "CMYK": ("CMYK",)}
_DARK_GREYS = 16
_ENCODE_STEPS = 1 << 20  # fine enough that a step near black is less than one 16-bit level


@dataclass(frozen=True)
class ToSrgb:
    """How to bring bands of a picture to sRGB: `convert` takes (n, W[, C]) and returns (n, W, 3)."""

    convert: Convert
    deep: bool  # the result is uint16, else uint8
    notes: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether colours stay as they are (grey is still repeated to three channels)."""
        return self.convert is _as_rgb


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


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """uint16 to the nearest uint8 level (65535 = 255)."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _as_rgb(strip: np.ndarray) -> np.ndarray:
    """A grey band (n, W) as (n, W, 3), without copying; colours as they are."""
    return strip if strip.ndim == 3 else np.broadcast_to(strip[..., None], (*strip.shape, 3))


def _without_profile(model: str, deep: bool) -> ToSrgb:
    if model == "CMYK":
        note = "CMYK without a colour profile converted by the simple formula: colours are approximate"
        return ToSrgb(lambda strip: np.asarray(_image(strip, "CMYK").convert("RGB")), False, (note,))
    if model == "LAB":
        transform = _transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")
        return ToSrgb(_through_pillow(transform, "LAB"), False, ("CIELab colours converted to sRGB",))
    return ToSrgb(_as_rgb, deep)


def _with_profile(icc: bytes, model: str, deep: bool) -> ToSrgb:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    name = (ImageCms.getProfileDescription(profile).strip() or "without a name")[:60]
    if model not in _MODEL_OF_SPACE.get(space, ()):
        raise ValueError(f"{name!r} is for {space} pictures, not {model}")
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[space]
    shallow = _through_pillow(_transform(profile, mode), mode)
    if mode != "CMYK" and _is_srgb(shallow, mode):
        return ToSrgb(_as_rgb, deep)
    note = f"colour profile {name!r} converted to sRGB"
    if not deep:
        return ToSrgb(shallow, False, (note,))
    exact = _exact_conversion(icc, mode)
    if exact is not None and _agree(exact, shallow, mode):
        return ToSrgb(exact, True, (note,))
    return ToSrgb(shallow, False, (f"{note} with 8 bits, because it is not a simple matrix profile",))


# --- LittleCMS, 8 bits -------------------------------------------------------------------------------------


def _image(strip: np.ndarray, mode: str) -> Image.Image:
    """A band as a Pillow image of `mode`; 16-bit values are rounded to 8 bits."""
    if strip.dtype != np.uint8:
        strip = to_8_bits(strip)
    if mode == "RGB":
        strip = _as_rgb(strip)
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
    return _largest_difference(convert(probe), _as_rgb(probe)) <= 1


def _largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(np.int32) - b.astype(np.int32)).max())


# --- Closed form, 16 bits ----------------------------------------------------------------------------------


def _agree(exact: Convert, shallow: Convert, mode: str) -> bool:
    probe = _probe(mode)
    if mode == "L":  # near black LittleCMS has few steps for greys of linear light
        probe = probe[:, _DARK_GREYS:]
    return _largest_difference(to_8_bits(exact(probe.astype(np.uint16) * 257)), shallow(probe)) <= 2


def _exact_conversion(icc: bytes, mode: str) -> Convert | None:
    """The closed-form uint16 conversion of a matrix and curve profile; None where it is of another kind."""
    try:
        tags = _profile_tags(icc)
        if mode == "L":
            curves = [_curve(tags[b"kTRC"])]
            matrix = np.eye(1)
        else:
            curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
            columns = [_fixed(tags[name][8:20]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
            matrix = np.linalg.inv(SRGB_TO_XYZ) @ np.stack(columns, axis=1)
    except (KeyError, ValueError, IndexError, struct.error, FloatingPointError):
        return None
    to_srgb = matrix.T.astype(np.float32)
    encode = _srgb_codes()

    def convert(strip: np.ndarray) -> np.ndarray:
        values = strip[..., None] if mode == "L" else _as_rgb(strip)
        linear = np.stack([curve[values[..., i]] for i, curve in enumerate(curves)], axis=-1) @ to_srgb
        index = (np.clip(linear, 0, 1) * np.float32(_ENCODE_STEPS) + np.float32(0.5)).astype(np.int32)
        rgb: np.ndarray = encode[index]
        return _as_rgb(rgb[..., 0]) if mode == "L" else rgb

    return convert


def _srgb_codes() -> np.ndarray:
    """sRGB code (uint16) of linear light k / _ENCODE_STEPS, for k = 0 .. _ENCODE_STEPS."""
    linear = np.linspace(0, 1, _ENCODE_STEPS + 1)
    codes = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(codes * 65535).astype(np.uint16)


def _profile_tags(icc: bytes) -> dict[bytes, bytes]:
    """The tags of an ICC profile: name -> data (type signature, four zero bytes, content)."""
    (count,) = struct.unpack_from(">I", icc, 128)
    entries = (struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 200)))
    return {name: icc[start : start + size] for name, start, size in entries}


def _fixed(data: bytes) -> np.ndarray:
    """s15Fixed16 numbers."""
    return np.frombuffer(data, ">i4") / 65536


def _curve(tag: bytes) -> np.ndarray:
    """The linear light (65536,) float32 of each uint16 code of a 'curv' or 'para' tag."""
    code = np.linspace(0, 1, 65536)
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        linear = _parametric(code, kind, _fixed(tag[12 : len(tag) // 4 * 4]))
    elif tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        table = np.frombuffer(tag, ">u2", count, 12)
        if count == 0:
            linear = code
        elif count == 1:
            linear = code ** (float(table[0]) / 256)
        else:
            linear = np.interp(code, np.linspace(0, 1, count), table / 65535)
    else:
        raise ValueError("unknown curve")
    return linear.astype(np.float32)


def _parametric(x: np.ndarray, kind: int, p: np.ndarray) -> np.ndarray:
    """The parametric curves of ICC.1 10.18: a power of (a x + b) above a break, a line below."""
    gamma = p[0]
    if kind == 0:
        return x**gamma
    a, b = p[1], p[2]
    line, low, high, cut = 0.0, 0.0, 0.0, -b / a
    if kind == 2:
        low = high = p[3]
    elif kind in (3, 4):
        line, cut = p[3], p[4]
        if kind == 4:
            high, low = p[5], p[6]
    elif kind != 1:
        raise ValueError("unknown parametric curve")
    return np.where(x >= cut, np.maximum(a * x + b, 0) ** gamma + high, line * x + low)
