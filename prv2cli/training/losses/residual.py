"""Losses of a residual of log-depth, for a refiner behind any coarse map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.model.refiner.surfaces import nearest_and_farthest

_HARD_ERROR = 0.08  # of the spread of log-depth
_HUBER_BETA = 0.4
_GRADIENT_WEIGHT = 0.2
_MEANS = (8, 16, 32)  # px
_EDGE_RADIUS = 4  # px around an edge that belong to it
_EDGE_FLOOR = 0.05  # of the spread of log-depth: what is lower is relief, not an edge


def weighted_residual_loss(
    residual: Tensor, target: Tensor, *, smooth: bool, hard_weight: float = 8.0
) -> Tensor:
    """How far a predicted residual is from the one that would give the truth, mostly where the coarse map is wrong.

    With a plain mean, leaving the coarse map alone is a strong local optimum: a sharp edge one pixel off costs as much
    as a blurred one. So pixels whose coarse depth is off weigh more (renormalised per tile), and the loss begins
    smooth (Huber), which rewards half a correction, and turns into L1 with a light gradient term, which reward steps.

    Args:
        residual, target: (B, 1, H, W) in units of the image's own spread of log-depth.
        smooth: Huber's loss, for the beginning.
        hard_weight: how much more a pixel counts that is off.
    """
    error = residual - target
    hard = 1 + hard_weight * (target.abs() > _HARD_ERROR).float()
    weight = hard / hard.mean((1, 2, 3), keepdim=True) / (0.5 + target.std((1, 2, 3), keepdim=True))
    if smooth:
        huber = F.smooth_l1_loss(residual, target, reduction="none", beta=_HUBER_BETA)
        return ((2 * huber + 0.3 * error.abs()) * weight).mean()
    gradient = sum(
        (error[..., k:, :] - error[..., :-k, :]).abs().mean()
        + (error[..., :, k:] - error[..., :, :-k]).abs().mean()
        for k in (1, 3)
    )
    return (error.abs() * weight).mean() + _GRADIENT_WEIGHT * gradient


def drift_loss(residual: Tensor, target: Tensor) -> Tensor:
    """How far local means of the refined depth stray: a coarse map is blurred, but its local means are right.

    L1 alone seeks medians, and may shift a whole surface to be right at its rim.

    Args:
        residual, target: as in `weighted_residual_loss`.
    """
    error = residual - target
    scale = 1 / (0.5 + target.std((1, 2, 3), keepdim=True))
    return torch.stack([(F.avg_pool2d(error, k).abs() * scale).mean() for k in _MEANS]).mean()


def edge_loss(residual: Tensor, target: Tensor, truth: Tensor) -> Tensor:
    """How far the refined depth is off near depth edges, as a share of the step there.

    In `weighted_residual_loss` an edge counts by its height, and an image's low steps hardly do; here all count alike.

    Args:
        residual, target: as in `weighted_residual_loss`. truth: (B, 1, H, W) depth in the same units.
    """
    nearest, farthest = nearest_and_farthest(truth, 2 * _EDGE_RADIUS + 1).split(1, dim=1)
    step = farthest - nearest
    is_edge = step / (step + _EDGE_FLOOR)  # from 0 on a plain surface up to 1
    share = (residual - target).abs() / (step + _EDGE_FLOOR)
    # The floor keeps a tile with hardly an edge from counting as much as one full of them.
    return ((share * is_edge).mean((1, 2, 3)) / (is_edge.mean((1, 2, 3)) + _EDGE_FLOOR)).mean()
