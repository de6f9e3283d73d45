"""Colours that a file states without a profile: primaries and a transfer curve, as the ICC profile that says the same.

PNG's gAMA and cHRM, cICP, HEIC's nclx -> icc_profile -> colour.plan_srgb, as for any profile
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

Primaries = tuple[float, float, float, float, float, float, float, float]  # x, y of white, red, green, blue
_D65 = (0.3127, 0.3290)
SRGB: Primaries = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# By the numbers of ITU-T H.273.
_PRIMARIES: dict[int, Primaries] = {
    1: SRGB,
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
# A parametric curve of ICC: gamma, a, b, c, d.
Curve = tuple[float, ...]
SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES: dict[int, Curve] = {4: (2.2,), 5: (2.8,), 8: (1.0,), 13: SRGB_CURVE}
_VIDEO = (1, 6, 14, 15)  # the curves of cameras for television: shown as sRGB is, near enough
HDR = (16, 18)
HDR_NOTE = "HDR colours (PQ or HLG) read as they are, without tone mapping"
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


class Coded(NamedTuple):
    """A profile for what a file states (None: its colours are sRGB, or not to be converted), and a note."""

    icc: bytes | None
    notes: tuple[str, ...] = ()


def from_code(primaries: int, transfer: int) -> Coded | None:
    """What numbers of ITU-T H.273 mean; None where they say nothing that is known."""
    if transfer in HDR:
        return Coded(None, (HDR_NOTE,))
    curve = SRGB_CURVE if transfer in _VIDEO else _CURVES.get(transfer)
    corners = _PRIMARIES.get(primaries)
    if curve is None or corners is None:
        return None
    if corners == SRGB and curve == SRGB_CURVE:
        return Coded(None)
    return Coded(icc_profile(corners, curve, f"coded colours {primaries}/{transfer}"))


def icc_profile(primaries: Primaries, curve: Curve, name: str, *, grey: bool = False) -> bytes:
    """A display profile (version 4) of these primaries and this curve; of greys by the curve alone.

    Raises ValueError for primaries that span no colours.
    """
    kind = 0 if len(curve) == 1 else 3
    para = b"para" + bytes(4) + struct.pack(">HH", kind, 0) + _fixed(*curve)
    text = name.encode("utf-16-be")
    described = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = {b"desc": described, b"wtpt": b"XYZ " + bytes(4) + _fixed(*_D50)}
    if grey:
        tags[b"kTRC"] = para
    else:
        columns = _matrix(primaries).T
        tags |= {
            name: b"XYZ " + bytes(4) + _fixed(*xyz) for name, xyz in zip(_XYZ_TAGS, columns, strict=True)
        }
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), para)
    return _assembled(tags, b"GRAY" if grey else b"RGB ")


_XYZ_TAGS = (b"rXYZ", b"gXYZ", b"bXYZ")


def _matrix(primaries: Primaries) -> np.ndarray:
    """XYZ of the primaries as columns, adapted to the white of profiles."""
    white, *corners = (
        np.array([x / y, 1.0, (1 - x - y) / y]) if y > 0 else None
        for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    )
    if white is None or any(corner is None for corner in corners):
        raise ValueError("primaries without light")
    columns = np.stack([corner for corner in corners if corner is not None], axis=1)
    if not np.isfinite(columns).all() or abs(np.linalg.det(columns)) < 1e-6:
        raise ValueError("primaries that span no colours")
    columns = columns * np.linalg.solve(columns, white)
    cone = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    adapted: np.ndarray = np.linalg.inv(_BRADFORD) @ (cone[:, None] * (_BRADFORD @ columns))
    if not (np.abs(adapted) < 100).all():
        raise ValueError("primaries that no profile can hold")
    return adapted


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _assembled(tags: dict[bytes, bytes], space: bytes) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    size = at + len(content)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04300000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(*_D50)
    return head.ljust(128, b"\0") + table + content
