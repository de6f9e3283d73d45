"""Whether a coarse depth map can be laid over a photograph, and the size at which a network's map is."""

from __future__ import annotations

import math
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


def covering(photograph: tuple[int, int], network: tuple[int, int]) -> tuple[int, int]:
    """The smallest size of the photograph's aspect that loses nothing of a network's map.

    It is no larger than the photograph, and of no more than four times the map's pixels.
    """
    (height, width), (rows, columns) = photograph, network
    needed = max(rows / height, columns / width)
    scale = min(1.0, needed, 2 * math.sqrt(rows * columns / (height * width)))
    if scale == 1:
        return photograph
    # The shorter side is rounded and the longer follows, or a strip's aspect would change.
    shorter = max(1, round(scale * min(photograph)))
    longer = round(shorter * max(photograph) / min(photograph))
    return (shorter, longer) if height <= width else (longer, shorter)
