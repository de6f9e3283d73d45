"""Levels of pixels: 16 bits as 8."""

from __future__ import annotations

import numpy as np


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """uint16 to the nearest uint8 level (65535 = 255); uint8 as it is."""
    return values if values.dtype == np.uint8 else ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
