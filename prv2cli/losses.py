"""Training losses as functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_HARD_ERROR = 0.08  # of the spread of log-depth
_HARD_WEIGHT = 8.0
_HUBER_BETA = 0.4
_GRADIENT_WEIGHT = 0.2


def silog(prediction: Tensor, truth: Tensor, valid: Tensor, beta: float = 0.15) -> Tensor:
    """SILog: 10 * sqrt(var(g) + beta * mean(g)^2), g = log(prediction) - log(truth) over valid pixels (METHOD 3).

    Args:
        prediction, truth: metres, same shape. valid: bool mask of that shape.
    """
    g = torch.log(prediction[valid] + 1e-7) - torch.log(truth[valid] + 1e-7)
    return 10 * torch.sqrt(torch.var(g) + beta * torch.mean(g) ** 2)


def weighted_residual_loss(residual: Tensor, target: Tensor, *, smooth: bool) -> Tensor:
    """How far a predicted residual is from the one that would give the truth, mostly where the coarse map is wrong.

    With a plain mean, leaving the coarse map alone is a strong local optimum: a sharp edge one pixel off costs as much
    as a blurred one. So pixels whose coarse depth is off weigh more (renormalised per tile), and the loss begins
    smooth (Huber), which rewards half a correction, and turns into L1 with a light gradient term, which reward steps.

    Args:
        residual, target: (B, 1, H, W) in units of the image's own spread of log-depth.
        smooth: Huber's loss, for the beginning.
    """
    error = residual - target
    hard = 1 + _HARD_WEIGHT * (target.abs() > _HARD_ERROR).float()
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


def log_gradient_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean difference of the gradients of log-depth at four scales. (B, 1, H, W) metres."""
    error = torch.log(prediction) - torch.log(truth)
    total = error.new_zeros(())
    for _ in range(4):
        total = total + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        total = total + (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
        error = error[..., ::2, ::2]
    return total
