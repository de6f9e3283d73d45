"""Where a coarse network sees no surface, above all the sky: refined as if it lay far behind, then taken out again.

The refiner finds the skyline as any other depth edge, so it lies on the photograph's own edges. A bundle was trained
on its network's depth as it is, and the holes of a given map may lie at any depth: there the map itself decides, as
coarse as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prv2cli.coarse.network import CoarseDepth
from prv2cli.errors import InputError
from prv2cli.resampling.maps import nearest_places

BEHIND = 4.0  # the sky lies so many times as far away as the farthest surface


@dataclass(frozen=True)
class Sky:
    """What tells the sky in a refined map: depth beyond `limit`, or the coarse map's own word.

    seen: (h, w), of the photograph's aspect, False in the sky.
    """

    limit: float = math.inf
    seen: np.ndarray | None = None

    def of(self, depth: np.ndarray, rows: slice, height: int) -> np.ndarray:
        """Which pixels of a band of the map, (n, W), are sky; `rows` of `height` in all."""
        if self.seen is None:
            return depth > self.limit
        lines = nearest_places(height, self.seen.shape[0])[rows]
        return ~self.seen[np.ix_(lines, nearest_places(depth.shape[1], self.seen.shape[1]))]


def check_something_is_seen(coarse: CoarseDepth) -> None:
    """Raises InputError where the network says that there is no surface at all."""
    if coarse.seen is not None and not coarse.seen.any():
        raise InputError("the coarse network sees no surface in this photograph, nothing but sky")


def put_behind(values: Tensor, seen: Tensor) -> Tensor:
    """(1, 1, h, w) depth with what is not `seen` behind all that is."""
    return torch.where(seen, values, BEHIND * values[seen].max())


def sky_of(coarse: CoarseDepth) -> Sky | None:
    """How the sky is told after refinement; None where the network saw a surface everywhere, or does not say."""
    if coarse.seen is None or bool(coarse.seen.all()):
        return None
    if coarse.as_seen:
        return Sky(seen=coarse.seen[0, 0].numpy())
    return Sky(limit=math.sqrt(BEHIND) * float(coarse.values[coarse.seen].max()))
