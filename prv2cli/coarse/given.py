"""A given map as the refiner takes it: its steps taken out, its holes filled, in the space that suits it.

metres, 1/metres           0 and negative values are holes; refined in log-depth
relative inverse depth     0 and negative values are far, as networks and pictures have it; affine
relative depth             the same, near, where it holds such values or was stored in few steps; else in log-depth
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from prv2cli.coarse.network import RELATIVE_RANGE, CoarseDepth, Kind, Unit, positive_depth
from prv2cli.errors import InputError
from prv2cli.resampling.maps import nearest_places
from prv2cli.restoration.holes import fill_holes
from prv2cli.restoration.quantised import unstep


def holes_of(values: np.ndarray, unit: Unit) -> np.ndarray:
    """(h, w) bool: where a given map has no depth."""
    with np.errstate(all="ignore"):
        return ~(np.isfinite(values) & (values > 0)) if unit == "metre" else ~np.isfinite(values)


def pixels_in(holes: np.ndarray, size: tuple[int, int]) -> int:
    """How many pixels of a photograph of `size` (rows, columns) have their nearest one of the map (h, w) in a hole."""
    counts = [
        np.bincount(nearest_places(side, small), minlength=small)
        for side, small in zip(size, holes.shape, strict=True)
    ]
    return int(counts[0] @ holes.astype(np.int64) @ counts[1])


def given_coarse(
    values: np.ndarray, kind: Kind, unit: Unit, half_step: float = 0.0, *, keep_holes: bool = False
) -> CoarseDepth:
    """The coarse depth of a given map: finite everywhere.

    Args:
        values: (h, w); what is not finite is a hole. half_step: how far a stored value may be from the true one.
        keep_holes: they are filled for the refiner, and `seen` has them.

    Raises:
        InputError: no pixel is valid.
    """
    with np.errstate(over="ignore"):  # a float64 that no float32 holds is a hole
        found = torch.from_numpy(np.array(values, dtype=np.float32))[None, None]
    seen = torch.from_numpy(~holes_of(found[0, 0].numpy(), unit))[None, None] if keep_holes else None
    known = torch.isfinite(found)
    below = bool(((found <= 0) & known).any())
    affine = unit == "relative" and (kind == "inverse" or half_step > 0 or below)
    if not affine:
        known &= found > 0
        if half_step > 0 and known.any():
            found = unstep(fill_holes(found, known, in_log=False), half_step)
        depth = positive_depth(CoarseDepth(found, kind, unit))
        return CoarseDepth(depth, unit=unit, seen=seen, as_seen=True, measured=_unless_all(known))
    if not known.any():
        raise InputError("the coarse depth map has no valid pixel (all are NaN or infinite)")
    found = fill_holes(found, known, in_log=False)
    if half_step > 0:
        found = unstep(found, half_step)
    return CoarseDepth(found, kind, unit, affine=True, seen=seen, as_seen=True, measured=_unless_all(known))


def _unless_all(known: torch.Tensor) -> torch.Tensor | None:
    return None if known.all() else known


def as_prompt(known: CoarseDepth) -> CoarseDepth:
    """A given map for a network that takes one of positive depth: the farthest of an affine map are far, no holes.

    One without a value above 0 is taken from its least on: its zero is no place in it.
    """
    if not known.affine:
        return known
    values = known.values if known.values.max() > 0 else known.values - known.values.min()
    return replace(known, values=values.clamp_min(values.max() / RELATIVE_RANGE), affine=False)
