"""The focal length in pixels that a photograph's EXIF data gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_FOCAL_LENGTH, _FOCAL_LENGTH_35MM = 0x920A, 0xA405
_PIXELS_X, _PIXELS_Y, _PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA002, 0xA003, 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


def focal_px(exif: Mapping[int, Any], width: int, height: int) -> float | None:
    """Return the focal length in pixels of a `width` x `height` photograph, or None where EXIF does not tell.

    `exif` is the EXIF sub-IFD by tag number. Whether the picture was turned does not change the answer, as pixels are
    square. A result outside 0.2..50 image widths is no lens
    but a wrong tag, and is dropped.
    """
    focal = _from_film(exif, width, height) or _from_sensor(exif, width, height)
    if focal is None or not 0.2 <= focal / max(width, height) <= 50:
        return None
    return focal


def _from_film(exif: Mapping[int, Any], width: int, height: int) -> float | None:
    """FocalLengthIn35mmFilm. The equivalence is by the diagonal (CIPA DCG-001), so any aspect is served."""
    focal_mm = _positive(exif.get(_FOCAL_LENGTH_35MM))
    return focal_mm and focal_mm * math.hypot(width, height) / FILM_DIAGONAL_MM


def _from_sensor(exif: Mapping[int, Any], width: int, height: int) -> float | None:
    """FocalLength (mm) and the sensor's pixels per unit; PixelXDimension and PixelYDimension tell of resizing."""
    focal_mm = _positive(exif.get(_FOCAL_LENGTH))
    per_unit = _positive(exif.get(_PLANE_X_RESOLUTION))
    unit_mm = _UNIT_MM.get(int(_positive(exif.get(_PLANE_UNIT, 2)) or 0))
    if focal_mm is None or per_unit is None or unit_mm is None:
        return None
    across, down = (_positive(exif.get(tag)) for tag in (_PIXELS_X, _PIXELS_Y))
    # By the longer sides where both are told: the picture may lie or stand, whatever they say.
    resized = max(width, height) / max(across, down) if across and down else width / (across or width)
    return focal_mm * per_unit / unit_mm * resized


def _positive(value: Any) -> float | None:
    """An EXIF number (int, float, rational, or a tuple of one) as a positive finite float, else None."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return None
    return number if math.isfinite(number) and number > 0 else None
