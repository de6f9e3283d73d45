"""From stored bands to the photograph as people see it: sRGB, over white where it is transparent, upright."""

from __future__ import annotations

import numpy as np

from prv2cli.photo.colour.to_srgb import ToSrgb
from prv2cli.photo.levels import to_8_bits
from prv2cli.photo.stored import Stored

BAND_PIXELS = 1 << 20


def upright_shape(stored: Stored) -> tuple[int, int, int]:
    """(H, W, 3) of the upright picture."""
    turned = stored.orientation >= 5
    return (stored.width, stored.height, 3) if turned else (stored.height, stored.width, 3)


def srgb_band(stored: Stored, plan: ToSrgb, y0: int, y1: int) -> tuple[np.ndarray, bool]:
    """The stored rows y0 to y1 in sRGB, not turned: (y1 - y0, width, 3); and whether any pixel was transparent."""
    band = stored.band(y0, y1)
    colour = plan.convert(band.colour)
    if band.alpha is None:
        return colour, False
    alpha = to_8_bits(band.alpha) if stored.deep and not plan.deep else band.alpha
    return _over_white(colour, alpha)


def _over_white(colour: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, bool]:
    """Colours (n, W, 3) over white by their alpha (n, W) of the same type; False if all are opaque."""
    top = np.uint32(np.iinfo(colour.dtype).max)
    if alpha.min() == top:
        return colour, False
    weight = alpha.astype(np.uint32)[..., None]
    mixed = colour.astype(np.uint32) * weight + top * (top - weight) + top // 2  # below 2**32 at 16 bits too
    return (mixed // top).astype(colour.dtype), True
