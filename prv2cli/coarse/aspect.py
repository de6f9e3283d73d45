"""Whether a coarse depth map can be laid over a photograph."""

from __future__ import annotations

from collections.abc import Sequence

from prv2cli.errors import InputError
from prv2cli.resampling.aspect import ASPECT_TOLERANCE, same_aspect


def check_aspect(coarse: Sequence[int], photograph: Sequence[int]) -> None:
    """Refuse a coarse map (rows, columns) of another aspect than the photograph. Raises InputError."""
    if len(coarse) != 2 or 0 in coarse:
        raise InputError(f"the coarse depth map must be (h, w) with pixels in it, not {tuple(coarse)}")
    (height, width), (rows, columns) = photograph, coarse
    if not same_aspect((rows, columns), (height, width)):
        raise InputError(
            f"the coarse depth map is {columns}x{rows}, the photograph {width}x{height}: the aspects differ by more "
            f"than {ASPECT_TOLERANCE:.0%}. Crop or rotate one of them (was the photograph turned upright?); "
            "--coarse-stretch is for a map that covers the whole photograph all the same"
        )
