"""Whether two maps of pixels show the same view: of the same shape, as far as rounding allows."""

from __future__ import annotations

from collections.abc import Sequence

ASPECT_TOLERANCE = 0.02


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Of two sizes (rows, columns). One of a few pixels cannot have the exact aspect: half of one is no mismatch."""
    return aspect_error(first, second) <= ASPECT_TOLERANCE + 0.5 / min(*first, *second)


def aspect_error(first: Sequence[int], second: Sequence[int]) -> float:
    """How far the aspect of one size (rows, columns) is from that of another, as a share."""
    return abs((first[1] / first[0]) / (second[1] / second[0]) - 1)
