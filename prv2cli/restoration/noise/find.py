"""Noise of a coarse depth map: found by its differences, and taken out along the photograph.

A refiner sharpens what it is given, grain too: it would choose between two surfaces where there is one. So the grain of
depth sensors and noisy estimates is removed before, on a grid of cells:

- second differences both ways are next to nothing on smooth surfaces and along edges; what the quietest quarter of them
  has is noise, if it is as much as Gaussian noise has beside the quieter half. It is looked for at every scale, as the
  noise of an enlarged map has large grains;
- where it is weak, it is what the levels of a pyramid have in common everywhere (grain_pyramid.py);
- where it is strong, the map becomes the smoothest one that stays near it, smooth along the photograph and not across
  its edges (bilateral_solver.py), the smoother the more noise there is.

A map with hardly any noise is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.resampling.guide import to_guide
from prv2cli.restoration.noise.bilateral_solver import solve
from prv2cli.restoration.noise.grain_pyramid import weak_noise
from prv2cli.restoration.noise.second_differences import OF_NOISE, SAMPLES, by_scale

SMALLEST = 12  # cells on the shorter side of what can be judged
HARMLESS = 0.008  # of the map's spread: what is below does no harm, and sensors have it
STRONG = 0.022  # from here on the photograph must say where surfaces end; below, the map itself tells
GAUSSIAN = 0.40  # quarter over median of the second differences: Gaussian noise has 0.47, structure less
STRENGTH = 8.0  # of the solver, for each pixel that a grain is wide, at noise of TYPICAL
FINE, FINE_STRONG = 8, 0.015  # cells: of finer grain there is more to average over, and less need be strong
TYPICAL = 0.035
FEW_PIXELS = 3.0  # cells across a map's pixel, both ways, from which on it is taken for their mean
WIDER = 2.5  # times as wide is a grain there, for the strength


class Grain(NamedTuple):
    """deviation: standard deviation, in the map's unit. width: cells that a grain is wide."""

    deviation: float
    width: int


def find_grain(cells: Tensor, measured: Tensor | None = None) -> Grain:
    """The noise of (1, 1, h, w) at the scale where it is most; deviation 0: none was found."""
    found = Grain(0.0, 1)
    for reduction, values in by_scale(cells, SMALLEST, measured):
        sample = values[:: math.ceil(len(values) / SAMPLES)]
        quarter, half = torch.quantile(sample, torch.tensor([0.25, 0.5])).tolist()
        if quarter > GAUSSIAN * half and quarter / OF_NOISE > found.deviation:
            found = Grain(quarter / OF_NOISE, reduction)
    return found


def find_noise(
    depth: Tensor, size: tuple[int, int], photograph: Callable[[], Tensor], measured: Tensor | None = None
) -> Tensor | None:
    """The noise in a coarse map.

    Args:
        depth: (1, 1, h, w) normalised. size: rows and columns of the grid.
        photograph: gives the photograph reduced to it, (1, 3, rows, columns) in 0..1; strong noise alone asks for that.
        measured: bool, as `depth`: False where it was filled; None: nowhere.

    Returns:
        What to subtract, (1, 1, rows, columns) on a grid of cells; None: no noise.
    """
    cells = to_guide(depth, size)
    grain = find_grain(cells, measured)
    if grain.deviation < HARMLESS:
        return None
    if grain.deviation < (FINE_STRONG if grain.width <= FINE else STRONG):
        return weak_noise(depth)
    rgb, noisy, small = photograph()[0].permute(1, 2, 0).numpy(), cells[0, 0].numpy(), None
    width: float = grain.width
    across = [of_grid / of_map for of_grid, of_map in zip(noisy.shape, depth.shape[-2:], strict=True)]
    if min(across) >= FEW_PIXELS:
        small, width = depth[0, 0].numpy(), WIDER * math.sqrt(math.prod(across))
    smooth = solve(rgb, noisy, STRENGTH * width * grain.deviation / TYPICAL, small)
    return torch.from_numpy(np.subtract(noisy, smooth))[None, None]


def without(noise: Tensor | None, depth: Tensor) -> Tensor:
    """A map (1, 1, h, w) of any size less the noise that was found in it."""
    if noise is None:
        return depth
    if depth.shape[-2] <= noise.shape[-2] and depth.shape[-1] <= noise.shape[-1]:
        return F.interpolate(depth, size=noise.shape[-2:], mode="bilinear", align_corners=False) - noise
    return depth - F.interpolate(noise, size=depth.shape[-2:], mode="bicubic", align_corners=False)
