"""Antialiased bilinear reduction of photographs of any size, as torch.nn.functional.interpolate has it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.files.disk_array import DiskArray

_BAND_PIXELS = 1 << 20


def resize_antialiased(rgb: np.ndarray | DiskArray, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 or uint16 -> (1, 3, *size) float32 in 0..1.

    Along the rows in bands, then along the columns, which is torch's own order: nothing of the photograph's size is
    made in floating point.
    """
    height, width = rgb.shape[:2]
    step = max(1, _BAND_PIXELS // width)
    bands = [_along_rows(rgb[y : y + step], size[1]) for y in range(0, height, step)]
    return _resize(torch.cat(bands, dim=2), size)


def _along_rows(band: np.ndarray, width: int) -> Tensor:
    values = torch.from_numpy(np.ascontiguousarray(band.transpose(2, 0, 1)).astype(np.float32))[None]
    return _resize(values / float(np.iinfo(band.dtype).max), (len(band), width))


def _resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)
