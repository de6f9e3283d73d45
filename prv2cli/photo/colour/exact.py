"""16-bit pictures to sRGB in closed form, by the matrix and curves of their ICC profile (ICC.1:2022, 8.3 and 10.18)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

Convert = Callable[[np.ndarray], np.ndarray]

# XYZ of the sRGB primaries, adapted to the D50 white of ICC profiles (columns R, G, B).
SRGB_TO_XYZ = np.array(
    [[0.4360413, 0.3851129, 0.1430458], [0.2224845, 0.7169051, 0.0606104], [0.0139202, 0.0970672, 0.7139126]]
)
_ENCODE_STEPS = 1 << 20  # fine enough that a step near black is less than one 16-bit level


def as_rgb(strip: np.ndarray) -> np.ndarray:
    """A grey band (n, W) as (n, W, 3), without copying; colours as they are."""
    return strip if strip.ndim == 3 else np.broadcast_to(strip[..., None], (*strip.shape, 3))


def exact_conversion(icc: bytes, mode: str) -> Convert | None:
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
        values = strip[..., None] if mode == "L" else as_rgb(strip)
        linear = np.stack([curve[values[..., i]] for i, curve in enumerate(curves)], axis=-1) @ to_srgb
        index = (np.clip(linear, 0, 1) * np.float32(_ENCODE_STEPS) + np.float32(0.5)).astype(np.int32)
        rgb: np.ndarray = encode[index]
        return as_rgb(rgb[..., 0]) if mode == "L" else rgb

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
