"""MoGe-2 as a coarse network: how finely it looks at a photograph, and its points as metric depth of its aspect."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prv2cli.coarse.aspect import covering
from prv2cli.coarse.network import CoarseDepth
from prv2cli.files.disk_array import DiskArray
from prv2cli.model.coarse.dinov2 import PATCH
from prv2cli.model.coarse.moge2 import (
    STRIDE,
    VALID,
    choose_tokens,
    metric_output,
    token_grid,
)
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.coarse.point_map import recover_camera
from prv2cli.model.config import Moge2Config
from prv2cli.resampling.triangle import resize_antialiased

# Bytes of the process during a pass on a CPU, with the most patches (benchmarks/coarse.py).
_PEAK_BYTES = {"vits": 2_500_000_000, "vitb": 2_800_000_000, "vitl": 3_700_000_000}


class Moge2Network:
    """MoGe-2 with its pre- and post-processing, ready on a device (a network.CoarseNetwork)."""

    def __init__(
        self, module: Any, config: Moge2Config, device: torch.device, name: str, identity: str
    ) -> None:
        self.module, self.config, self.device = module, config, device
        self.name, self.identity = name, identity
        self.peak_bytes = _PEAK_BYTES[config.encoder]

    @torch.inference_mode()
    def predict(self, rgb: np.ndarray | DiskArray, focal_px: float | None = None) -> CoarseDepth:
        """Depth of an (H, W, 3) uint8 or uint16 photograph in metres, of its aspect, and six features.

        The photograph is seen with as many patches as it has, within what the network was trained for; the authors'
        own call takes the most for any photograph. Their half precision is not used.

        Args:
            focal_px: focal length in pixels of the photograph. Without it the network's own is used, and given back.
        """
        height, width = rgb.shape[0], rgb.shape[1]
        grid = token_grid(height, width, choose_tokens(height, width, self.config.tokens))
        small = resize_antialiased(rgb, (grid[0] * PATCH, grid[1] * PATCH)).to(self.device)
        size = covering((height, width), (grid[0] * STRIDE, grid[1] * STRIDE))
        found = self.module.map_points(small, grid, size, width / height)
        half_diagonal = math.hypot(height, width) / 2
        given = None if focal_px is None else focal_px / half_diagonal
        camera = recover_camera(found.points[0], found.validity[0, 0] > VALID, given)
        out = metric_output(found, [camera])
        told = focal_px is None and camera.known and camera.focal > 0
        estimate = camera.focal * half_diagonal if told else None
        return coarse_depth(out, estimate)


def coarse_depth(out: CoarseOutput, focal_px: float | None) -> CoarseDepth:
    """What one picture's output means: no depth where the network sees no surface."""
    assert out.valid is not None
    valid = out.valid.cpu()
    normals: Tensor | None = None if out.normals is None else out.normals.float().cpu()
    return CoarseDepth(
        torch.where(valid, out.depth.float().cpu(), 0),
        features=out.features,
        seen=valid,
        estimated_focal_px=focal_px,
        normals=normals,
    )
