"""The truth, brought to the levels that a coarse map gives its surfaces.

What a coarse map has wrong away from edges no photograph tells, and a refiner that guesses at it ruins maps that were
right there. So a refiner is asked for the true edges between the coarse map's own surfaces. The difference of the two
maps is averaged over cells of place and of true depth, as in a bilateral grid (Chen et al., SIGGRAPH 2007), from the
pixels that lie away from true edges; and added to the truth.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.model.refiner.surfaces import nearest_and_farthest

CELL = 24  # pixels
LEVELS = 24  # of true depth
EDGE = 0.12  # range around a pixel, of the map's spread, from which it counts as lying at an edge
_SOFT = (1.0, 2.0, 1.0)
_LITTLE = 2.0  # pixels of support, below which a cell says little


def at_own_levels(truth: Tensor, coarse: Tensor, unit: float) -> Tensor:
    """The truth at the coarse map's levels.

    Args:
        truth, coarse: (1, 1, H, W) normalised. unit: pixels that the coarse map resolves.
    """
    reach = 2 * round(min(12.0, max(1.0, 1.5 * unit))) + 1
    nearest, farthest = nearest_and_farthest(truth, reach).split(1, dim=1)
    trusted = (farthest - nearest < EDGE).float()
    rows, columns = (max(2, round(side / CELL)) for side in truth.shape[-2:])
    low, high = truth.min(), truth.max()
    level = ((truth - low) / (high - low).clamp_min(1e-6) * (LEVELS - 1))[0, 0]
    place = _place(level, rows, columns)
    grid = torch.stack(
        [_summed(values[0, 0], place, rows, columns) for values in (trusted, trusted * (coarse - truth))]
    )
    grid = _smooth(grid[None])
    shift = grid[:, 1:] / (grid[:, :1] + _LITTLE)
    return truth + _sliced(shift, level)


def _place(level: Tensor, rows: int, columns: int) -> Tensor:
    """(H, W) index of each pixel's cell."""
    height, width = level.shape
    y = (torch.arange(height) * rows // height)[:, None]
    x = (torch.arange(width) * columns // width)[None]
    return (level.round().long() * rows + y) * columns + x


def _summed(values: Tensor, place: Tensor, rows: int, columns: int) -> Tensor:
    sums = torch.bincount(place.flatten(), values.flatten(), minlength=LEVELS * rows * columns)
    return sums.view(LEVELS, rows, columns).float()


def _smooth(grid: Tensor) -> Tensor:
    """(1, C, LEVELS, rows, columns), blurred a little along all three."""
    kernel = torch.tensor(_SOFT) / sum(_SOFT)
    for axis in (2, 3, 4):
        shape = [1] * 5
        shape[axis] = 3
        padding = [0] * 3
        padding[axis - 2] = 1
        weight = kernel.view(shape).expand(grid.shape[1], *[-1] * 4)
        grid = F.conv3d(grid, weight, padding=tuple(padding), groups=grid.shape[1])
    return grid


def _sliced(grid: Tensor, level: Tensor) -> Tensor:
    """(1, 1, LEVELS, rows, columns) at each pixel's place and depth: (1, 1, H, W)."""
    height, width = level.shape
    y = ((torch.arange(height) + 0.5) / height * 2 - 1)[:, None].expand(height, width)
    x = ((torch.arange(width) + 0.5) / width * 2 - 1)[None].expand(height, width)
    z = level / (LEVELS - 1) * 2 - 1
    # grid_sample's corners: align_corners would be wrong for places, and right for depths
    z = z * (LEVELS - 1) / LEVELS
    points = torch.stack([x, y, z], dim=-1)[None, None]
    found = F.grid_sample(grid, points, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0]
