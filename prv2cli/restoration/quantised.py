"""Maps stored in few steps, as 8-bit pictures are: the smoothest map that they can have come from.

A stored value tells the true one to half a step. Between these bounds the map may be as smooth as it likes: it is
averaged with its neighbours and brought back between the bounds, again and again, from coarse cells to fine ones, so
that wide terraces become slopes and edges stay where they are. JPEG's blocks go the same way, with wider bounds.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 24  # cells on the shorter side of the coarsest level
LARGEST = 3_000_000  # pixels of the finest level that is worked on; above, the next coarser one is enlarged
ROUNDS = 12  # at each level


def unstep(values: Tensor, half: float) -> Tensor:
    """Take the steps out of a map.

    Args:
        values: (1, 1, h, w), finite. half: how far a stored value may be from the true one.

    Returns:
        The same shape, nowhere further than `half` from `values`.
    """
    levels = [values]
    while min(levels[-1].shape[-2:]) >= 2 * SMALLEST:
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False))
    found = levels[-1]
    for level in levels[::-1]:
        if found.shape != level.shape:
            found = F.interpolate(found, size=level.shape[-2:], mode="bilinear", align_corners=False)
        found = _between(found, level, half)
        if level.numel() <= LARGEST:
            for _ in range(ROUNDS):
                found = _between(_averaged(found), level, half)
    return found


def _between(found: Tensor, stored: Tensor, half: float) -> Tensor:
    return torch.minimum(torch.maximum(found, stored - half), stored + half)


def _averaged(values: Tensor) -> Tensor:
    padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, 1)
