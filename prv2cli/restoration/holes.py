"""Holes of a coarse depth map, filled from what surrounds them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def fill_holes(depth: Tensor, valid: Tensor, *, in_log: bool = True) -> Tensor:
    """Fill invalid pixels of (1, 1, h, w) from their surroundings: the mean at the finest scale that has any.

    Valid pixels stay bit for bit as they are, and holes take nothing but valid values. `in_log`: the mean of log-depth;
    without it that of the values, which may then be 0 or below.
    """
    if bool(valid.all()):
        return depth
    weight = valid.float()
    known = torch.where(valid, depth, torch.ones_like(depth))
    levels = [((known.log() if in_log else known) * weight, weight)]
    while min(levels[-1][0].shape[-2:]) > 1 or max(levels[-1][0].shape[-2:]) > 1:
        total, weight = levels[-1]
        levels.append((_halve(total), _halve(weight)))
    filled = levels[-1][0] / levels[-1][1].clamp_min(1e-12)
    for total, weight in reversed(levels[:-1]):
        below = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, total / weight.clamp_min(1e-12), below)
    return torch.where(valid, depth, filled.exp() if in_log else filled)


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
