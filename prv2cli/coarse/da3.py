"""Depth Anything 3, monocular, as a coarse network: photographs made small as its authors do, its depth in metres."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.coarse.aspect import covering
from prv2cli.coarse.network import CoarseDepth
from prv2cli.files.disk_array import DiskArray
from prv2cli.model.coarse.da3 import CANONICAL_FOCAL
from prv2cli.model.coarse.dinov2 import PATCH
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import Da3Config
from prv2cli.model.layers import resize
from prv2cli.resampling.coverage import average_area
from prv2cli.resampling.cubic import resize_cubic

logger = logging.getLogger("prv2cli")

Size = tuple[int, int]  # rows, columns


_PEAK_BYTES = {"vitl": 2_600_000_000}  # of the process during a pass on a CPU (benchmarks/coarse.py)


class Da3Network:
    """Depth Anything 3 with its pre- and post-processing, ready on a device (a network.CoarseNetwork)."""

    def __init__(
        self, module: nn.Module, config: Da3Config, device: torch.device, name: str, identity: str
    ) -> None:
        self.module, self.config, self.device = module, config, device
        self.name, self.identity = name, identity
        self._warned = False
        self.peak_bytes = _PEAK_BYTES.get(config.encoder, 0)

    @torch.inference_mode()
    def predict(self, rgb: np.ndarray | DiskArray, focal_px: float | None = None) -> CoarseDepth:
        """Depth of an (H, W, 3) uint8 or uint16 photograph, of its aspect, and six features.

        Args:
            focal_px: focal length in pixels of the photograph. With it the metric network gives metres; without it,
                and from the other network in any case, depth is relative.
        """
        photograph: Size = (rgb.shape[0], rgb.shape[1])
        image = network_input(rgb, self.config.input_size).to(self.device)
        processed: Size = (image.shape[-2], image.shape[-1])
        out: CoarseOutput = self.module(image)
        assert out.valid is not None
        depth, valid = out.depth.float(), out.valid
        metres = self.config.metric and focal_px is not None
        if self.config.metric and focal_px is not None:
            depth = depth * (processed_focal(focal_px, photograph, processed) / CANONICAL_FOCAL)
        elif self.config.metric and not self._warned:
            self._warned = True
            logger.warning(
                "%s gives metres only with a focal length, and the photograph tells none: relative depth; "
                "add --focal-px",
                self.name,
            )
        size = covering(photograph, processed)
        # Of half-pixel centres, as the depth is.
        seen = F.interpolate(valid.float(), size, mode="nearest-exact").bool() if size != processed else valid
        return CoarseDepth(
            torch.where(seen, resize(depth, size, False), 0).cpu(),
            unit="metre" if metres else "relative",
            features=out.features,
            seen=seen.cpu(),
        )


def processed_focal(focal_px: float, photograph: Size, processed: Size) -> float:
    """The focal length in pixels of the network's input: the mean of its two axes', as the authors have it."""
    return focal_px * (processed[0] / photograph[0] + processed[1] / photograph[1]) / 2


def network_input(rgb: np.ndarray | DiskArray, longest: int) -> Tensor:
    """A photograph as the authors' pre-processing makes it, but for the normalisation, which is the network's.

    Resized twice, each time rounded to the photograph's own integers: its longer side to `longest`, then both sides
    to multiples of a patch. The two differ from OpenCV's result by one step of the integers at most.

    Returns:
        (1, 3, rows, columns) float32 in 0..1.
    """
    first, second = processed_sizes(rgb.shape[0], rgb.shape[1], longest)
    small = _resize(_resize(rgb, first), second)
    values = small.astype(np.float32) / np.iinfo(small.dtype).max
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]


def processed_sizes(height: int, width: int, longest: int) -> tuple[Size, Size]:
    """The sizes after the first and the second step; ties of the second go up.

    The authors let a side of less than half a patch become one pixel, which their network refuses; here it is a patch.
    """
    scale = longest / max(height, width)
    first = (max(1, round(height * scale)), max(1, round(width * scale)))
    rows, columns = (max(PATCH, (2 * side + PATCH) // (2 * PATCH) * PATCH) for side in first)
    return first, (rows, columns)


def _resize(image: np.ndarray | DiskArray, size: Size) -> np.ndarray:
    """Cubic where a side grows, else by area, in the image's own integers."""
    if image.shape[:2] == size and isinstance(image, np.ndarray):
        return image
    if image.shape[0] < size[0] or image.shape[1] < size[1]:
        resized = resize_cubic(np.asarray(image[:]), size)
    else:
        resized = average_area(image, size)
    return np.rint(resized).clip(0, np.iinfo(image.dtype).max).astype(image.dtype)
