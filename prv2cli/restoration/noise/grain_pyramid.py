"""Weak noise of a coarse depth map, taken out in a pyramid of differences (Burt and Adelson, IEEE Trans. Communications
1983), where there is nothing else. find.py says whether there is noise at all.

- smooth surfaces, and edges seen through a blur, have about a quarter of a level's differences in the next finer one;
  white noise has as much there, or more. What a level has beyond RATIO of the next coarser one is its noise;
- it is everywhere, and depth's own details are not: each level is judged by the quietest tenth of the map;
- around every cell a level keeps the share of its differences that noise does not explain (Wiener's filter with local
  variances; Lee, IEEE PAMI 1980). So edges stay, with the noise beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.resampling.guide import guide_size, to_guide

SIDE = 768  # cells on the longer side of the grid on which noise is found, at most
SMALLEST = 16  # cells on the shorter side of a level
LEVELS = 7
RATIO = 0.45  # of a level's differences to those of the next coarser one, above which it holds noise
QUIET = 0.1  # of the map, by which its noise is judged
EXPLAINED = 3.0  # times the quiet part's energy: what noise may have elsewhere
WINDOW = 2  # cells each way, in which local energy is averaged
FLOOR = 1e-4  # of the map's spread of log-depth, in a level: less is rounding
SMALL = 2e-3  # of the same, standard deviation in all: less does no harm
_SAMPLES = 1 << 17
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def weak_noise(depth: Tensor) -> Tensor | None:
    """The noise in a coarse map.

    Args:
        depth: (1, 1, h, w) normalised log-depth.

    Returns:
        What to subtract, (1, 1, rows, columns) on a grid of at most SIDE cells each way; None: no noise.
    """
    height, width = depth.shape[-2:]
    levels = _pyramid(to_guide(depth, guide_size(height, width, 1, SIDE)))
    energies = [_mean_around(level.square(), WINDOW) for level in levels]
    noise = _noise_of([_quiet(energy) for energy in energies])
    if not any(noise):
        return None
    found = torch.zeros_like(levels[-1])
    for level, energy, own in zip(levels[::-1], energies[::-1], noise[::-1], strict=True):
        share = (EXPLAINED * own / energy.clamp_min(1e-30)).clamp_max(1)
        found = _enlarged(found, level.shape[-2:]) + _mean_around(share, 1) * level
    return found if float(found.std()) >= SMALL else None


def _pyramid(cells: Tensor) -> list[Tensor]:
    """The differences of each level to the next coarser one, finest first."""
    levels: list[Tensor] = []
    while len(levels) < LEVELS and min(cells.shape[-2:]) >= SMALLEST:
        coarser = _halved(cells)
        levels.append(cells - _enlarged(coarser, cells.shape[-2:]))
        cells = coarser
    return levels


def _noise_of(quiet: Sequence[float]) -> list[float]:
    """The energy of the noise in each level, from the quiet energies; of the coarsest nothing can be said."""
    noise = [own - RATIO**2 * coarser for own, coarser in pairwise(quiet)]
    return [*(energy if energy > FLOOR**2 else 0.0 for energy in noise), 0.0] if quiet else []


def _quiet(energy: Tensor) -> float:
    """The energy of the quietest tenth of a level, averaged once more so that chance does not make it."""
    values = _mean_around(energy, WINDOW).flatten()
    return float(torch.quantile(values[:: math.ceil(len(values) / _SAMPLES)], QUIET))


def _halved(cells: Tensor) -> Tensor:
    row = torch.tensor(_BINOMIAL).view(1, 1, 1, 5)
    smooth = F.conv2d(F.pad(cells, (2, 2, 0, 0), mode="replicate"), row)
    smooth = F.conv2d(F.pad(smooth, (0, 0, 2, 2), mode="replicate"), row.mT)
    size = [(side + 1) // 2 for side in cells.shape[-2:]]
    return F.interpolate(smooth, size=size, mode="bilinear", align_corners=False)


def _enlarged(cells: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(size) == cells.shape[-2:]:
        return cells
    return F.interpolate(cells, size=tuple(size), mode="bicubic", align_corners=False)


def _mean_around(values: Tensor, reach: int) -> Tensor:
    padded = F.pad(values, (reach,) * 4, mode="reflect")
    return F.avg_pool2d(padded, 2 * reach + 1, 1)
