"""Depth as text inside a page, to the last bit: `pack` writes what page/data.js reads.

(h, w) values ─ whole steps of the file (16 bits) where that loses nothing, else float32
              ─ the difference to the pixel on the left ─ byte planes ─ zlib ─ base64
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass

import numpy as np

MOST_STEPS = 65535
_LEVEL = 6  # of zlib: beyond it minutes bring a few per cent


@dataclass(frozen=True)
class Packed:
    """text: base64. bytes: 2, steps of 1 / `scale` with 0 = no depth; or 4, float32 with NaN = no depth."""

    text: str
    bytes: int
    scale: float


def pack(values: np.ndarray, scale: float) -> Packed:
    """Pack (h, w) float32 values, NaN = no depth; `scale`: the stored steps per unit of the file they are from."""
    steps = _whole_steps(values, scale)
    words = values.astype("<f4").view("<u4") if steps is None else steps
    words[:, 1:] -= words[:, :-1].copy()  # modulo 2^16 or 2^32
    planes = np.ascontiguousarray(words).view(np.uint8).reshape(-1, words.itemsize).T
    text = base64.b64encode(zlib.compress(planes.tobytes(), _LEVEL)).decode("ascii")
    return Packed(text, words.itemsize, scale)


def _whole_steps(values: np.ndarray, scale: float) -> np.ndarray | None:
    """`values` * `scale` as 16-bit integers, 0 = no depth; None where that is not the values exactly."""
    known = ~np.isnan(values)
    steps = np.rint(np.where(known, values, 0).astype(np.float64) * scale)
    if steps.max() > MOST_STEPS or steps[known].min(initial=1) < 1:
        return None
    if not np.array_equal((steps / scale).astype(np.float32)[known], values[known]):
        return None
    return steps.astype("<u2")
