"""Differences of two maps over their valid pixels, and the gradients of differences."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_STEP = 2  # px between the two ends of a gradient, as in the authors' code


def masked_l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean of |prediction - target| over the valid pixels of the batch, in their unit."""
    residual = masked(match_size(prediction, target), valid) - masked(target, valid)
    return residual.abs().sum() / valid.sum().clamp(min=1) * _enough(valid)


def gradient_matching(prediction: Tensor, target: Tensor, valid: Tensor, *, exact: bool = False) -> Tensor:
    """(1/M) * sum(|dx R| + |dy R|), R = prediction - target, M valid pixels in the batch.

    The differences span two pixels, both valid.

    Args:
        prediction, target: (B, 1, H, W) of one unit.
        exact: as the authors' GradMatchLoss, which by a slip counts vertical differences only.
    """
    residual = masked(match_size(prediction, target), valid) - masked(target, valid)
    return _gradients(residual, valid, across=not exact)


def match_size(source: Tensor, target: Tensor) -> Tensor:
    """The source at the target's size: bilinear, corners aligned."""
    if source.shape[-2:] == target.shape[-2:]:
        return source
    return F.interpolate(source, target.shape[-2:], mode="bilinear", align_corners=True)


def masked(values: Tensor, valid: Tensor) -> Tensor:
    """Zero where invalid. Not a product: that would keep NaN, and send it back as a gradient."""
    return torch.where(valid, values, 0)


def _enough(valid: Tensor) -> Tensor:
    """False where a single pixel, or none, is valid."""
    return valid.sum() > 1


def _gradients(residual: Tensor, valid: Tensor, *, across: bool) -> Tensor:
    """Sum of |differences| over _STEP px down and, if `across`, to the right, per valid pixel."""
    total = residual.new_zeros(())
    for axis in (-2, -1) if across else (-2,):
        length = max(residual.shape[axis] - _STEP, 0)
        difference = residual.narrow(axis, -length, length) - residual.narrow(axis, 0, length)
        both = valid.narrow(axis, -length, length) & valid.narrow(axis, 0, length)
        total = total + masked(difference.abs(), both).sum()
    return total / valid.sum().clamp(min=1) * _enough(valid)
