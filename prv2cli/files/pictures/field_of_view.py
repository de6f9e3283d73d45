"""Focal length and field of view of a picture, each from the other."""

from __future__ import annotations

import math


def field_of_view(focal_px: float, pixels: int) -> float:
    """In degrees, of so many pixels in a row."""
    return 2 * math.degrees(math.atan(pixels / (2 * focal_px)))


def focal_of_view(degrees: float, pixels: float) -> float:
    """The focal length, in pixels, of a field of view over so many pixels in a row."""
    return pixels / (2 * math.tan(math.radians(degrees) / 2))
