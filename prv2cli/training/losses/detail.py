"""A pseudo-label's detail without its scale: the prediction is fitted to it first, whole or window by window."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.training.losses.differences import gradient_matching, masked, masked_l1, match_size

_FLAT = 1e-10  # variance over squared mean below which a map has no shape that could be scaled


class Alignment(NamedTuple):
    """target is about scale * prediction + shift."""

    scale: Tensor  # (B,)
    shift: Tensor  # (B,) in the target's unit


def fit_scale_and_shift(prediction: Tensor, target: Tensor, valid: Tensor) -> Alignment:
    """Least squares of scale * prediction + shift against the target, per image, differentiable in both maps.

    A prediction that is flat where valid is given scale 0 and the target's mean; an image without valid
    pixels scale 0 and shift 0.

    Args:
        prediction, target: (B, 1, H, W). valid: bool, the same.
    """
    axes = (-3, -2, -1)
    weight = valid.to(
        torch.promote_types(prediction.dtype, torch.float32)
    )  # half precision cannot count pixels
    share = weight / weight.sum(axes, keepdim=True).clamp(min=1)
    p, t = masked(prediction, valid), masked(target, valid)
    mean_p, mean_t = (share * p).sum(axes, keepdim=True), (share * t).sum(axes, keepdim=True)
    variance = (share * (p - mean_p) ** 2).sum(axes)
    covariance = (share * (p - mean_p) * (t - mean_t)).sum(axes)
    shaped = variance > _FLAT * mean_p.flatten() ** 2
    scale = torch.where(shaped, covariance / torch.where(shaped, variance, 1), 0)
    return Alignment(scale, mean_t.flatten() - scale * mean_p.flatten())


def ssi(prediction: Tensor, target: Tensor, valid: Tensor, *, window: int | None = None) -> Tensor:
    """Scale-and-shift-invariant loss: mean |difference| after the prediction's best fit to the target.

    Args:
        prediction: (B, 1, H, W), any unit. target: a pseudo-label, whose unit the loss has.
        window: px; fit each window of that size by itself (cut at the right and lower border). None: each image.
    """
    aligned, target, valid = _align(prediction, target, valid, window)
    return masked_l1(aligned, target, valid)


def ssigm(prediction: Tensor, target: Tensor, valid: Tensor, *, window: int | None = None) -> Tensor:
    """Scale-and-shift-invariant gradient matching, PRV2's detail loss: `gradient_matching` after the best fit.

    Both axes count, in the authors' code as well. With windows (the ICLR 2026 version) each is fitted by itself,
    and differences are taken within windows only: across a border they would show the fit, not the depth.

    Args: as `ssi`.
    """
    aligned, target, valid = _align(prediction, target, valid, window)
    return gradient_matching(aligned, target, valid)


def _align(
    prediction: Tensor, target: Tensor, valid: Tensor, window: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The prediction fitted to the target, the target and the mask; with a window, (B * windows, 1, h, w) each."""
    prediction = match_size(prediction, target)
    if window is not None:
        prediction, target, valid = (_cut_windows(t, window) for t in (prediction, target, valid))
    scale, shift = (value[:, None, None, None] for value in fit_scale_and_shift(prediction, target, valid))
    return scale * masked(prediction, valid) + shift, target, valid


def _cut_windows(values: Tensor, window: int) -> Tensor:
    """(B, 1, H, W) -> (B * windows, 1, h, w), filled up with zeros (False) at the right and lower border."""
    batch, _, height, width = values.shape
    h, w = min(window, height), min(window, width)
    padded = F.pad(values, (0, -width % w, 0, -height % h))
    rows, columns = padded.shape[-2] // h, padded.shape[-1] // w
    return padded.reshape(batch, rows, h, columns, w).transpose(2, 3).reshape(-1, 1, h, w)
