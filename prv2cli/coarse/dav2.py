"""Depth Anything V2 as a coarse network: photographs made small as its authors do, its depth given their aspect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli.coarse.network import CoarseDepth, forward_per_size
from prv2cli.model.coarse.dinov2 import PATCH
from prv2cli.model.config import Dav2Config
from prv2cli.model.layers import resize
from prv2cli.resampling.area import shrink
from prv2cli.resampling.aspect import ASPECT_TOLERANCE, aspect_error
from prv2cli.resampling.cubic import resize_cubic

# The longer side of the input is at most this many times its nominal size: 5476 patches at 518, four times what the
# network was trained with. A strip of any length fits into memory then.
MAX_ASPECT = 4
# Photographs larger than this many times the network's input are area-averaged (see `network_input`).
ALIASING = 2


class Dav2Network:
    """Depth Anything V2 with its pre- and post-processing, ready on a device (a network.CoarseNetwork)."""

    def __init__(
        self, module: nn.Module, config: Dav2Config, device: torch.device, name: str, identity: str
    ) -> None:
        self.module, self.config, self.device = module, config, device
        self.name, self.identity = name, identity

    def predict(self, rgb: np.ndarray, focal_px: float | None = None) -> CoarseDepth:
        """Depth of an (H, W, 3) uint8 or uint16 photograph in metres, at the network's size, and six features.

        The network knows no focal length: its metres are those of the camera it was trained with. The authors bring
        the depth to the photograph's size with align_corners=True; that shifts it by up to half a pixel of the
        network's towards the borders, so that step is left to the caller.
        """
        return self.predict_many([rgb])[0]

    @torch.inference_mode()
    def predict_many(self, photos: Sequence[np.ndarray]) -> list[CoarseDepth]:
        """predict() of each; photographs that the network sees at one size go through it together."""
        inputs = [network_input(rgb, self.config.input_size).to(self.device) for rgb in photos]
        return [
            CoarseDepth(_in_aspect(out.depth.float().cpu(), rgb.shape), features=out.features)
            for rgb, out in zip(photos, forward_per_size(self.module, inputs), strict=True)
        ]


def network_input(rgb: np.ndarray, size: int) -> Tensor:
    """A photograph as the network gets it: `authors_input`, but large photographs are area-averaged.

    The authors' bicubic reads four pixels a side wherever it samples. At a ratio of 1.5 (their training images) it
    misses nothing; a photograph of 24 megapixels is 8 times as large as the input, and what lies between the
    samples, e.g. thin wires, comes and goes with their position. So beyond a ratio of ALIASING every pixel counts.

    Args:
        rgb: (H, W, 3) uint8 or uint16.
        size: nominal input size, a multiple of 14.

    Returns:
        (1, 3, *input_size(H, W, size)) float32 in 0..1, the bicubic's overshoots left as they are.
    """
    rows, columns = input_size(rgb.shape[0], rgb.shape[1], size)
    if rgb.shape[0] > ALIASING * rows or rgb.shape[1] > ALIASING * columns:
        return shrink(rgb, (rows, columns))
    return authors_input(rgb, size)


def authors_input(rgb: np.ndarray, size: int) -> Tensor:
    """A photograph resized exactly as the authors' `infer_image` does: the same arguments and result as above.

    The network subtracts the mean itself; the authors do it before the conversion to float32, to the same result
    within rounding.
    """
    small = resize_cubic(rgb, input_size(rgb.shape[0], rgb.shape[1], size)) / np.iinfo(rgb.dtype).max
    return torch.from_numpy(small.transpose(2, 0, 1).astype(np.float32))[None]


def input_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width to which a photograph is resized for the network: multiples of 14, its aspect kept.

    The authors' rule: the shorter side becomes `size`, the longer is rounded (halves to even). Ours, for panoramas
    and strips beyond 4:1: the longer side stops at MAX_ASPECT * size, and the shorter becomes less than `size`, one
    patch at least.
    """
    scale = max(size / height, size / width)
    bound = MAX_ASPECT * size
    if scale * max(height, width) > bound:
        scale = bound / max(height, width)
    rows, columns = (max(1, round(scale * side / PATCH)) * PATCH for side in (height, width))
    return rows, columns


def _in_aspect(depth: Tensor, photograph: Sequence[int]) -> Tensor:
    """The map itself where rounding to patches kept the photograph's aspect, else its shorter side corrected.

    Only small inputs and strips need it: a side of 518 is never more than 1.4 % off.
    """
    (rows, columns), (height, width) = depth.shape[-2:], photograph[:2]
    if aspect_error((rows, columns), (height, width)) <= ASPECT_TOLERANCE:
        return depth
    if width > height:
        return resize(depth, (max(1, round(columns * height / width)), columns), False)
    return resize(depth, (rows, max(1, round(rows * width / height))), False)
