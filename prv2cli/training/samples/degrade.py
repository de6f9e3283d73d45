"""The degrader: from a true depth map to one as a depth network would give it.

Mild spoiling teaches; harsh spoiling teaches to leave everything alone. Each fault is drawn for itself, so
that samples range from nearly right to wrong in every way.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.resampling.extremes import largest_around, smallest_around
from prv2cli.training.config.samples import DegradeConfig

_MIN_SIDE = 6  # low-resolution pixels
_LIMITS = (1e-3, 1e4)  # metres
_CELL_VARIANCE = 1 / 12 + 1 / 6  # low-resolution pixels: averaged over one, up-sampled bilinearly


class _Dice:
    """Random numbers from one torch generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def chance(self, probability: float) -> bool:
        return self.uniform(0, 1) < probability

    def pick(self, *options: int) -> int:
        return options[int(torch.randint(len(options), (), generator=self.generator))]

    def field(self, height: int, width: int, cells: int) -> Tensor:
        """(1, 1, H, W) smooth noise of about unit variance, `cells` bumps across."""
        knots = torch.randn(1, 1, cells + 2, cells + 2, generator=self.generator)
        # Bicubic at a quarter of the size, then bilinear: as smooth for this purpose and much cheaper.
        quarter = (max(2, height // 4), max(2, width // 4))
        field = F.interpolate(knots, size=quarter, mode="bicubic", align_corners=True)
        return F.interpolate(field, size=(height, width), mode="bilinear", align_corners=True)

    def normal(self, height: int, width: int) -> Tensor:
        return torch.randn(1, 1, height, width, generator=self.generator)


class Spoilt(NamedTuple):
    """A spoilt depth map, and the standard deviation in its pixels of the blur that it has been through."""

    depth: Tensor  # (1, 1, H, W) metres, > 0
    blur: float


def degrade(depth: Tensor, config: DegradeConfig, generator: torch.Generator) -> Spoilt:
    """Spoil a true depth map.

    Args:
        depth: (1, 1, H, W) metres, > 0.
        generator: the only source of randomness.

    Returns:
        The map: thin parts lost, edges displaced, low resolution and blur (in log, inverse or plain depth: networks
        average in the space they predict), low-frequency distortion and noise.
    """
    dice = _Dice(generator)
    height, width = depth.shape[-2:]
    space = _pick_space(dice, config)
    log_depth = depth.log()
    spread = float(log_depth.std().clamp(0.05, 2))
    if dice.chance(config.drop_thin):
        log_depth = _lose_thin_parts(log_depth, dice)
    factor = math.exp(dice.uniform(*(math.log(f) for f in config.factor)))
    if config.displacement > 0 and dice.chance(config.displaced):
        log_depth = _displace(log_depth, dice.uniform(0, config.displacement) * factor, dice)
    size = (max(_MIN_SIDE, round(height / factor)), max(_MIN_SIDE, round(width / factor)))
    low = F.interpolate(_to_space(log_depth, space), size=size, mode="area")
    sigma = dice.uniform(*config.blur)
    low = _blur(low, sigma)
    mode = "bilinear" if dice.chance(0.5) else "bicubic"
    out = F.interpolate(low, size=(height, width), mode=mode, align_corners=False)
    out = _from_space(out, space)
    if config.distortion > 0 and dice.chance(0.8):
        amount = spread * dice.uniform(0, config.distortion)
        out = out + dice.field(height, width, dice.pick(1, 2)) * amount
    if config.noise > 0 and dice.chance(config.noisy):
        grain = F.interpolate(dice.normal(*size), size=(height, width), mode="bilinear", align_corners=False)
        out = out + grain * spread * dice.uniform(0, config.noise)
    return Spoilt(out.exp().clamp(*_LIMITS), height / size[0] * math.hypot(sigma, math.sqrt(_CELL_VARIANCE)))


def _pick_space(dice: _Dice, config: DegradeConfig) -> str:
    log, inverse, plain = config.spaces
    draw = dice.uniform(0, log + inverse + plain)
    if draw < log:
        return "log"
    return "inverse" if draw < log + inverse else "depth"


def _to_space(log_depth: Tensor, space: str) -> Tensor:
    if space == "log":
        return log_depth
    return torch.exp(-log_depth if space == "inverse" else log_depth)


def _from_space(values: Tensor, space: str) -> Tensor:
    if space == "log":
        return values
    log_values = values.clamp_min(1e-4).log()  # bicubic up-sampling can overshoot below zero
    return -log_values if space == "inverse" else log_values


def _lose_thin_parts(log_depth: Tensor, dice: _Dice) -> Tensor:
    """Remove foreground (or background) narrower than 3 or 5 pixels, everywhere or in patches."""
    radius = dice.pick(1, 2)

    farthest, nearest = partial(largest_around, radius=radius), partial(smallest_around, radius=radius)
    without = nearest(farthest(log_depth)) if dice.chance(0.7) else farthest(nearest(log_depth))
    if dice.chance(0.5):
        return without
    height, width = log_depth.shape[-2:]
    where = torch.sigmoid(8 * dice.field(height, width, dice.pick(1, 2, 4)))
    return log_depth + (without - log_depth) * where


def _displace(log_depth: Tensor, amount: float, dice: _Dice) -> Tensor:
    """Move everything by a smooth field of about `amount` pixels."""
    height, width = log_depth.shape[-2:]
    cells = dice.pick(3, 6, 12, 24)
    dx = dice.field(height, width, cells) * (2 * amount / width)
    dy = dice.field(height, width, cells) * (2 * amount / height)
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    grid = torch.stack([xs + dx[0, 0], ys + dy[0, 0]], dim=-1)[None]
    return F.grid_sample(log_depth, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _blur(low: Tensor, sigma: float) -> Tensor:
    if sigma < 0.2:
        return low
    radius = max(1, math.ceil(2 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    low = F.pad(low, (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(low, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
