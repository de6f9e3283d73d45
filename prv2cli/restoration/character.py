"""What a coarse map is like: how sharp its edges are, how much noise it has. A refiner is told, so that it knows when
to leave a map alone.

    sharpness   at every place, the standard deviation in pixels of the blur that the steepest slope of the
                surroundings has seen, if it joins the nearest and the farthest surface there
    noise       of the whole map, its standard deviation: by second differences that planes and straight edges do not
                have (Immerkaer, CVIU 1996), at the scale where it is most. The quietest quarter decides: it is
                hardly ever all structure

Both on a logarithmic scale, about -1 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.resampling.extremes import largest_around, smallest_around
from prv2cli.resampling.guide import to_guide
from prv2cli.restoration.noise.second_differences import OF_NOISE, SAMPLES, by_scale

SIDE = 1024  # cells on the longer side of what is looked at, at most
RELIEF = 0.02  # of the map's spread: what a single surface may have
_OF_A_STEP = math.sqrt(2 * math.pi)  # height over steepest slope and standard deviation, of a blurred step
_QUARTER = 0.25
_QUIETEST = 1e-3  # of the map's spread
_SMALLEST = 8  # cells on the shorter side of what is judged: as the shipped refiner was told


def character(
    normalised: Tensor,
    photograph: Sequence[int],
    guide: Sequence[int],
    window: int,
    measured: Tensor | None = None,
) -> Tensor:
    """The two channels for the guide.

    Args:
        normalised: (1, 1, h, w) coarse map of any size, in a refiner's space. photograph: its rows and columns.
        guide: rows and columns of the guide. window: cells of it around a cell that count as its surroundings.
        measured: (1, 1, any size) bool, False where the map was filled; None: nowhere.

    Returns:
        (1, 2, *guide): sharpness, noise.
    """
    cells = _at_most(normalised, SIDE)
    width = _blur_around(cells, photograph, guide, window)
    sharpness = (width.clamp(0.25, 64).log2() - 2) / 4
    noise = (math.log2(max(_QUIETEST, noise_level(cells, measured))) + 6) / 4
    return torch.cat([sharpness, torch.full_like(sharpness, noise)], dim=1)


def _blur_around(cells: Tensor, photograph: Sequence[int], guide: Sequence[int], window: int) -> Tensor:
    """Of each cell of the guide, (1, 1, *guide), the blur of the steepest slope around it, in pixels."""
    slope = torch.zeros_like(cells)
    slope[..., :, :-1] = cells.diff(dim=-1).abs()
    slope[..., :-1, :] = torch.maximum(slope[..., :-1, :], cells.diff(dim=-2).abs())
    steepest = largest_around(_largest_in(slope, guide), window // 2)
    seen = to_guide(cells, guide)
    extent = largest_around(seen, window // 2) - smallest_around(seen, window // 2) + RELIEF
    pixels = photograph[0] / cells.shape[-2]  # of a cell
    return pixels * extent / (_OF_A_STEP * steepest.clamp_min(1e-6))


def noise_level(cells: Tensor, measured: Tensor | None = None) -> float:
    """Standard deviation of the noise of (1, 1, h, w), in its unit."""
    found = 0.0
    for _, values in by_scale(cells, _SMALLEST, measured):
        sample = values[:: max(1, len(values) // SAMPLES)]
        found = max(found, float(torch.quantile(sample, _QUARTER)) / OF_NOISE)
    return found


def _at_most(values: Tensor, side: int) -> Tensor:
    longer = max(values.shape[-2:])
    if longer <= side:
        return values
    return to_guide(values, [max(1, round(length * side / longer)) for length in values.shape[-2:]])


def _largest_in(values: Tensor, size: Sequence[int]) -> Tensor:
    """The largest value in each cell of a coarser grid; the nearest one where the grid is finer."""
    if values.shape[-2] >= size[0] and values.shape[-1] >= size[1]:
        return F.adaptive_max_pool2d(values, tuple(size))
    return F.interpolate(values, size=tuple(size), mode="nearest")
