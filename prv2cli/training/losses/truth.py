"""Supervision in metres: which depths supervise, SILog, gradients of log-depth."""

from __future__ import annotations

import torch
from torch import Tensor

from prv2cli.training.losses.differences import match_size

LOG_FLOOR = 1e-7  # metres


def usable_depths(truth: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Which pixels of a truth supervise: those strictly between two depths.

    Args:
        truth: (B, 1, H, W) metres.

    Returns:
        bool mask of the shape of `truth`.
    """
    return (truth > min_depth) & (truth < max_depth)


def silog(prediction: Tensor, truth: Tensor, valid: Tensor, beta: float = 0.15) -> Tensor:
    """SILog: 10 * sqrt(var(g) + beta * mean(g)^2), g = log(prediction) - log(truth) over valid pixels.

    Args:
        prediction, truth: metres, same shape or (B, 1, ., .). valid: bool mask of the truth's shape.
    """
    prediction = match_size(prediction, truth)[valid]
    return _spread(_log_ratio(prediction, truth[valid]), beta)


def log_gradient_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean difference of the gradients of log-depth at four scales. (B, 1, H, W) metres."""
    error = torch.log(prediction) - torch.log(truth)
    total = error.new_zeros(())
    for _ in range(4):
        total = total + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        total = total + (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
        error = error[..., ::2, ::2]
    return total


def _log_ratio(prediction: Tensor, truth: Tensor) -> Tensor:
    return torch.log(prediction + LOG_FLOOR) - torch.log(truth + LOG_FLOOR)


def _spread(g: Tensor, beta: float) -> Tensor:
    """10 * sqrt(var(g) + beta * mean(g)^2), zero for fewer than two values, and with a gradient even at zero."""
    if g.numel() < 2:
        return g.sum() * 0
    squared = torch.var(g) + beta * torch.mean(g) ** 2
    return 10 * torch.sqrt(squared) if squared > 0 else squared * 0
