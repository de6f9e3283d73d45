"""A given map as the refiner takes it: its steps taken out, its holes filled, in the space that suits it.

metres, 1/metres           0 and negative values are holes; refined in log-depth
relative inverse depth     0 and negative values are far, as networks and pictures have it; affine
relative depth             the same, near, where it holds such values or was stored in few steps; else in log-depth
"""

from __future__ import annotations

import numpy as np
import torch

from prv2cli.coarse.network import CoarseDepth, Kind, Unit, positive_depth
from prv2cli.errors import InputError
from prv2cli.restoration.holes import fill_holes
from prv2cli.restoration.quantised import unstep


def given_coarse(values: np.ndarray, kind: Kind, unit: Unit, half_step: float = 0.0) -> CoarseDepth:
    """The coarse depth of a given map: finite everywhere.

    Args:
        values: (h, w); what is not finite is a hole. half_step: how far a stored value may be from the true one.

    Raises:
        InputError: no pixel is valid.
    """
    found = torch.from_numpy(np.array(values, dtype=np.float32))[None, None]
    known = torch.isfinite(found)
    below = bool((found[known] <= 0).any())
    affine = unit == "relative" and (kind == "inverse" or half_step > 0 or below)
    if not affine:
        return CoarseDepth(positive_depth(CoarseDepth(found, kind, unit)), unit=unit)
    if not known.any():
        raise InputError("the coarse depth map has no valid pixel (all are NaN or infinite)")
    found = fill_holes(found, known, in_log=False)
    if half_step > 0:
        found = unstep(found, half_step)
    return CoarseDepth(found, kind, unit, affine=True)
