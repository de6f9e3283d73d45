"""Training losses as functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

_HARD_ERROR = 0.08  # normalised log-depth
_HARD_WEIGHT = 12.0


def silog(prediction: Tensor, truth: Tensor, valid: Tensor, beta: float = 0.15) -> Tensor:
    """SILog: 10 * sqrt(var(g) + beta * mean(g)^2), g = log(prediction) - log(truth) over valid pixels (METHOD 3).

    Args:
        prediction, truth: metres, same shape. valid: bool mask of that shape.
    """
    g = torch.log(prediction[valid] + 1e-7) - torch.log(truth[valid] + 1e-7)
    return 10 * torch.sqrt(torch.var(g) + beta * torch.mean(g) ** 2)


def weighted_residual_loss(prediction: Tensor, truth: Tensor, coarse: Tensor, ratio: Tensor) -> Tensor:
    """How far a refined tile is from the truth, mostly where the coarse map is wrong.

    With a plain mean, leaving the coarse map alone is a strong local optimum: a sharp edge one pixel off costs as much
    as a blurred one. Pixels whose coarse depth is off therefore weigh more (renormalised per tile), and differences of
    the error at distances 1, 2 and 4 ask for its edges to be steps.

    Args:
        prediction, truth, coarse: (B, 1, H, W) normalised log-depth.
        ratio: (B, 1, 1, 1) units of this normalisation per unit of the image's own spread.
    """
    error = (prediction - truth) * ratio
    base = (coarse - truth).abs() * ratio
    weight = 1 / (1 + (truth * ratio).std((1, 2, 3), keepdim=True))
    hard = 1 + _HARD_WEIGHT * (base > _HARD_ERROR).float()
    hard = hard / hard.mean((1, 2, 3), keepdim=True)
    absolute = (error.abs() * hard * weight).mean()
    gradient = sum(
        ((error[..., k:, :] - error[..., :-k, :]).abs() * weight).mean()
        + ((error[..., :, k:] - error[..., :, :-k]).abs() * weight).mean()
        for k in (1, 2, 4)
    )
    return 2 * absolute + 0.5 * gradient


def log_gradient_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean difference of the gradients of log-depth at four scales. (B, 1, H, W) metres."""
    error = torch.log(prediction) - torch.log(truth)
    total = error.new_zeros(())
    for _ in range(4):
        total = total + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        total = total + (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
        error = error[..., ::2, ::2]
    return total
