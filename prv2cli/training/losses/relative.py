"""Losses of a monocular network whose truth may lack its scale, or its scale and shift.

    scale_and_shift_invariant    inverse depth after both are normalised by median and spread, and its gradients
    scale_invariant              log-depth less the median of its error
    scale_error                  that median: how far the scale itself is off
    doubt_loss                   the network's own word for it

Maps are (B, 1, H, W); `known` is a bool mask of that shape. Each gives (B,) numbers, 0 where too little is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST = 100  # known pixels that an image needs
_SCALES = 4
_LOW, _HIGH = -4.0, 6.0  # normalised inverse depth beyond these is an outlier of the truth


def scale_and_shift_invariant(inverse: Tensor, truth: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Mean |difference| of normalised inverse depth, and of its gradients at four scales, added up."""
    enough = _enough(known)
    target = _normalised(truth, known).clamp(_LOW, _HIGH)
    error = torch.where(known, _normalised(inverse, known) - target, 0)
    count = known.sum((1, 2, 3)).clamp(min=1)
    level = error.abs().sum((1, 2, 3)) / count
    gradient = error.new_zeros(len(error))
    for _ in range(_SCALES):
        count = known.sum((1, 2, 3)).clamp(min=1)
        for axis in (-2, -1):
            length = error.shape[axis] - 1
            both = known.narrow(axis, 0, length) & known.narrow(axis, 1, length)
            steps = torch.where(both, error.diff(dim=axis), 0).abs()
            gradient = gradient + steps.sum((1, 2, 3)) / count
        error, known = error[..., ::2, ::2], known[..., ::2, ::2]
    return level * enough, gradient * enough


def log_ratio(log_depth: Tensor, truth: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """log(depth / true depth), and where it is known: nowhere that the truth is infinitely far."""
    known = known & (truth > 0)
    return torch.where(known, log_depth + torch.where(known, truth, 1).log(), 0), known


def scale_error(ratio: Tensor, known: Tensor) -> Tensor:
    """The median of each image's log-ratios, without a gradient; 0 where too little is known."""
    medians = [
        one[mask].median() if mask.sum() >= FEWEST else one.new_zeros(())
        for one, mask in zip(ratio.detach(), known, strict=True)
    ]
    return torch.stack(medians)


def scale_invariant(ratio: Tensor, known: Tensor, median: Tensor) -> Tensor:
    """Mean |log-ratio - its median|."""
    return mean_of(ratio - median.view(-1, 1, 1, 1), known)


def mean_of(ratio: Tensor, known: Tensor) -> Tensor:
    """Mean |log-ratio| of each image."""
    total = torch.where(known, ratio, 0).abs().sum((1, 2, 3))
    return total / known.sum((1, 2, 3)).clamp(min=1) * _enough(known)


def doubt_loss(log_doubt: Tensor, error: Tensor) -> Tensor:
    """Negative log-likelihood of the scale's error by a Laplace distribution as wide as the doubt.

    Args:
        log_doubt, error: (B,); the error in natural log of depth. Its best answer is the error to be expected.
    """
    return log_doubt + error.abs() * torch.exp(-log_doubt)


def _normalised(values: Tensor, known: Tensor) -> Tensor:
    """Less its median, by its mean absolute deviation, over the known pixels of each image."""
    rows = []
    for one, mask in zip(values, known, strict=True):
        chosen = one[mask]
        if len(chosen) < FEWEST:
            rows.append(one * 0)
            continue
        centre = chosen.median()
        rows.append((one - centre) / (chosen - centre).abs().mean().clamp_min(1e-6))
    return torch.stack(rows)


def _enough(known: Tensor) -> Tensor:
    return known.sum((1, 2, 3)) >= FEWEST
