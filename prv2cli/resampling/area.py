"""Photographs made smaller by area averages, whether they lie in memory or on disk; and enlarged, for the coarse pass.

shrink              -> (1, 3, h, w) float in 0..1, for a network
reduce_photograph   -> (h, w, 3) of the photograph's own type
resize_photograph   -> as shrink; bilinear as the authors do it, unless that would miss pixels
"""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from prv2cli.files.disk_array import DiskArray
from prv2cli.resampling.area_in_bands import reduce_on_disk, shrink_on_disk

ALIASING = 2  # photographs larger than this many times a network's input are area-averaged
_BAND_PIXELS = 1 << 20


@overload
def reduce_photograph(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray: ...
@overload
def reduce_photograph(rgb: DiskArray, size: tuple[int, int]) -> DiskArray | np.ndarray: ...
def reduce_photograph(rgb: np.ndarray | DiskArray, size: tuple[int, int]) -> np.ndarray | DiskArray:
    """(H, W, 3) uint8 or uint16 -> (*size, 3) of the same type, area-averaged; on disk where both are large."""
    if isinstance(rgb, DiskArray):
        return reduce_on_disk(rgb, size)
    if rgb.dtype == np.uint8:
        return np.asarray(_average(rgb, size))
    return np.round(shrink(rgb, size)[0].permute(1, 2, 0).numpy() * 65535).astype(rgb.dtype)


def shrink(rgb: np.ndarray | DiskArray, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 or uint16 -> (1, 3, *size) float in 0..1, area-averaged without a full-size float copy."""
    if isinstance(rgb, DiskArray):
        small = shrink_on_disk(rgb, size)
    elif rgb.dtype == np.uint8:
        small = np.asarray(_average(rgb, size), np.float32) / 255
    else:
        channels = [_average(rgb[..., c].astype(np.float32), size) for c in range(3)]
        small = np.stack([np.asarray(channel) for channel in channels], axis=-1) / 65535
    return torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))[None]


def resize_photograph(rgb: np.ndarray | DiskArray, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 or uint16 -> (1, 3, *size) float32 in 0..1, as ZoeDepth and all of PatchRefiner get it.

    The authors resize bilinearly, corners aligned, without antialiasing. Beyond a ratio of ALIASING that misses
    pixels; there the photograph is area-averaged.
    """
    if rgb.shape[0] > ALIASING * size[0] or rgb.shape[1] > ALIASING * size[1]:
        return shrink(rgb, size)
    whole = shrink(rgb, (rgb.shape[0], rgb.shape[1]))
    return F.interpolate(whole, size, mode="bilinear", align_corners=True)


def _average(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Along the rows, then along the columns. In one call Pillow chooses the order, and rounds in between.

    In bands, as Pillow copies what it is given.
    """
    step = max(1, _BAND_PIXELS // pixels.shape[1])
    bands = [
        np.asarray(Image.fromarray(band).resize((size[1], len(band)), Image.Resampling.BOX))
        for band in (pixels[y : y + step] for y in range(0, len(pixels), step))
    ]
    return Image.fromarray(np.concatenate(bands)).resize((size[1], size[0]), Image.Resampling.BOX)
