"""Whether a coarse depth map and a photograph show the same view: of the same shape, as far as rounding allows."""

from __future__ import annotations

from collections.abc import Sequence

from prv2cli.errors import InputError

ASPECT_TOLERANCE = 0.02


def check_aspect(coarse: Sequence[int], photograph: Sequence[int]) -> None:
    """Refuse a coarse map (rows, columns) of another aspect than the photograph. Raises InputError."""
    if len(coarse) != 2 or 0 in coarse:
        raise InputError(f"the coarse depth map must be (h, w) with pixels in it, not {tuple(coarse)}")
    (height, width), (rows, columns) = photograph, coarse
    # A map of a few pixels cannot have the exact aspect: half a pixel of rounding is no mismatch.
    slack = ASPECT_TOLERANCE + 0.5 / min(rows, columns)
    if abs((columns / rows) / (width / height) - 1) > slack:
        raise InputError(
            f"the coarse depth map is {columns}x{rows}, the photograph {width}x{height}: the aspects differ by more "
            f"than {ASPECT_TOLERANCE:.0%}. Crop or rotate one of them (was the photograph turned upright?)"
        )
