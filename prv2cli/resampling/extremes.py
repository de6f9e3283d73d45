"""The largest and the smallest value around every pixel; quicker than max_pool2d, which is made for many channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def largest_around(x: Tensor, radius: int) -> Tensor:
    """Of each (2 radius + 1)^2 window of (..., H, W); beyond the border there is nothing."""
    return _picked_around(x, radius, torch.maximum)


def smallest_around(x: Tensor, radius: int) -> Tensor:
    """The same of the smallest values."""
    return _picked_around(x, radius, torch.minimum)


def _picked_around(x: Tensor, radius: int, pick: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    shape, full = x.shape, 2 * radius + 1
    # What a window has already changes nothing.
    x = F.pad(x.reshape(-1, *shape[-2:]), (radius,) * 4, mode="replicate")
    for axis in (1, 2):
        width = 1
        while width < full:  # two windows side by side make one of up to twice the width
            shift = min(width, full - width)
            length = x.shape[axis] - shift
            x = pick(x.narrow(axis, 0, length), x.narrow(axis, shift, length))
            width += shift
    return x.view(shape)
