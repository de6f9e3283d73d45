"""Small layers shared by the model's parts: normalisation, resizing, cropping a map to tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) map, eps 1e-6 as in the authors' code.

    In channels_last memory both permutations are views, so nothing is copied.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def conv3x3(inputs: int, outputs: int, *, bias: bool = True, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size (or divides it by `stride`)."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)


def gelu(x: Tensor) -> Tensor:
    """F.gelu, on a processor nearly twice as fast on a (B, C, H, W) map in channels_last memory.

    torch hands it to oneDNN where the memory runs in the order of the axes, and does it by itself elsewhere.
    """
    if x.is_contiguous(memory_format=torch.channels_last):
        return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return F.gelu(x)


class Gelu(nn.Module):
    """The function `gelu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


def conv_norm_gelu(inputs: int, outputs: int) -> nn.Sequential:
    """Conv3x3 (no bias) -> channel LayerNorm -> GELU, the unit of F2C."""
    return nn.Sequential(conv3x3(inputs, outputs, bias=False), ChannelLayerNorm(outputs), Gelu())


def resize(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Bilinear resize of (B, C, h, w) to (B, C, *size); the map itself when the size already fits."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def crop_to_boxes(features: Tensor, boxes: Tensor, image_index: Tensor, size: Sequence[int]) -> Tensor:
    """Sample boxes of a feature map at a given size: RoI-align with one bilinear sample per output pixel.

    Args:
        features: (N, C, h, w) maps of N whole images.
        boxes: (B, 4) x0, y0, x1, y1 as fractions of the image, 0..1 (beyond it the border is repeated).
        image_index: (B,) which of the N images each box belongs to.
        size: output height and width.

    Returns:
        (B, C, *size). Sampling points lie at the centres of the output pixels (align_corners=False), as RoI-align
        with `aligned=True` and `sampling_ratio=1` has them.
    """
    height, width = int(size[0]), int(size[1])
    xs = _centres(boxes[:, 0], boxes[:, 2], width)
    ys = _centres(boxes[:, 1], boxes[:, 3], height)
    # Half precision has no room for places: in bfloat16 they would be a pixel or two off.
    exact = torch.promote_types(features.dtype, torch.float32)
    grid = torch.stack(
        [xs[:, None, :].expand(-1, height, -1), ys[:, :, None].expand(-1, -1, width)], dim=-1
    ).to(exact)
    # Tiles of one image share its map: no copy of it for each.
    source = features.expand(len(boxes), -1, -1, -1) if len(features) == 1 else features[image_index]
    sampled = F.grid_sample(
        source.to(exact), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.to(features.dtype)


def _centres(start: Tensor, stop: Tensor, count: int) -> Tensor:
    """(B, count) positions in grid_sample's -1..1 of the centres of `count` equal parts of start..stop."""
    steps = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
    return 2 * (start[:, None] + (stop - start)[:, None] * steps[None]) - 1


def positive_part(depth: Tensor) -> Tensor:
    """The authors' ReLU on a bundle's depth, with a gradient by which a pixel at 0 can come back.

    Noisy pretraining begins about 0 metres. Where all pixels fall to 0, a ReLU has no gradient, and training would
    go on for ever without learning anything.
    """
    return _RevivingReLU.apply(depth) if torch.is_grad_enabled() else F.relu(depth)


class _RevivingReLU(torch.autograd.Function):
    """ReLU. To a pixel below 0 that ought to be larger goes as much gradient as to the mean pixel above 0, at most."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return F.relu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        mean = (grad.abs() * above).sum() / above.sum().clamp_min(1)
        # With none above 0 only the direction counts: the gradient's norm is clipped.
        limit = torch.where(above.any(), mean, torch.full_like(mean, 1 / grad.numel()))
        return torch.where(above, grad, torch.maximum(grad.clamp_max(0), -limit))
