"""A shock filter: makes a step of the ramp that is left where two surfaces meet, and leaves all else as it is.

A network that was trained to be right on average draws an edge it is not sure of as a ramp, a pixel or two wide, with
points between the surfaces. Shock filters (Osher and Rudin, SIAM J. Numer. Anal. 27, 1990) move each pixel of a ramp
to the surface on its side of the inflection. Two things are ours: it happens only

- where neighbouring depths differ by some per cent, so that relief and noise on a surface stay;
- between bends both ways, as at the foot and at the head of a ramp: ground that recedes towards the
  horizon is as steep as an edge, but bends one way only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prv2cli.files.disk_array import DiskArray
from prv2cli.resampling.extremes import largest_around, smallest_around
from prv2cli.restoration.edges.by_bands import by_bands

EDGE = 0.03  # range of log-depth in 3 x 3 px from which a pixel moves all the way
CLEAN_EDGE = 0.01  # the same where a map has no noise and no texture that could be taken for edges
BLUR = (0.05, 0.24, 0.42, 0.24, 0.05)  # a Gaussian of 0.8 px, through which the bend is seen
CLEAR_BEND = 0.05  # of that range: a bend that leaves no doubt about the side
NEAR = 2  # px within which there must be bends both ways
REACH = len(BLUR) // 2 + 1 + NEAR  # px that a step looks around itself
_TINY = 1e-9


def shock_filter(values: np.ndarray | DiskArray, steps: int, spread: float, edge: float = EDGE) -> None:
    """Steepen the edges of a map in place, band by band.

    Args:
        values: (H, W) float32 normalised log-depth.
        steps: how many times; each moves a pixel by one at most. 0: nothing happens.
        spread: log-depth of one unit of `values`. edge: EDGE or CLEAN_EDGE.
    """
    if not steps:
        return

    def change(block: np.ndarray, first: int) -> np.ndarray:
        x = torch.from_numpy(block)
        for _ in range(steps):
            x = _step(x, spread / edge)
        return x.numpy()

    by_bands(values, steps * REACH, change)


def _step(x: Tensor, unit: float) -> Tensor:
    """(H, W) -> (H, W). unit: edges, in the sense of EDGE, that one unit of x is."""
    nearest, farthest, bend = smallest_around(x, 1), largest_around(x, 1), _bend(x)
    extent = farthest - nearest
    one_way, other_way = largest_around(bend, NEAR), -smallest_around(bend, NEAR)
    # 0: all around bends one way. 1: the weaker bend is half as strong as the other at least.
    share = _share(2 * torch.minimum(one_way, other_way), torch.maximum(one_way, other_way))
    share *= _share(bend.abs(), CLEAR_BEND * extent)
    share *= (extent * unit).clamp_(0, 1).square_()  # relief, a third as high, hardly moves
    return torch.lerp(x, torch.where(bend < 0, farthest, nearest), share)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole within 0..1; `part` is used up."""
    return part.div_(whole.clamp_min(_TINY)).clamp_(0, 1)


def _bend(x: Tensor) -> Tensor:
    """Laplacian of (H, W) behind the blur."""
    # Slopes go on beyond the border: repeated values would bend them.
    padded = np.pad(x.numpy(), len(BLUR) // 2 + 1, mode="reflect", reflect_type="odd")
    x = _blurred(_blurred(torch.from_numpy(padded), 0), 1)
    total = (x[:-2, 1:-1] + x[2:, 1:-1]).add_(x[1:-1, :-2]).add_(x[1:-1, 2:])
    return total.sub_(x[1:-1, 1:-1], alpha=4)


def _blurred(x: Tensor, axis: int) -> Tensor:
    """Along one axis, shorter by what the kernel needs."""
    length = x.shape[axis] - len(BLUR) + 1
    outer, inner, middle, *_ = BLUR
    first, second, third, fourth, fifth = (x.narrow(axis, start, length) for start in range(len(BLUR)))
    return third.mul(middle).add_(second + fourth, alpha=inner).add_(first + fifth, alpha=outer)
