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
    total = torch.where(valid, depth, 1.0 if in_log else 0.0)
    if in_log:
        total.log_()
    coarser: list[tuple[Tensor, Tensor]] = []  # not the finest level, which may be as large as the photograph
    while max(total.shape[-2:]) > 1:
        total, weight = _halve(total), _halve(weight)
        coarser.append((total, weight))
    filled = total / weight.clamp_min(1e-12)
    for total, weight in reversed(coarser[:-1]):
        below = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, total / weight.clamp_min(1e-12), below)
    below = F.interpolate(filled, size=depth.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(valid, depth, below.exp_() if in_log else below)


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
