"""Preparing a coarse depth map and the photograph for the network: aspect, holes, size. No model, no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from prv2cli.errors import InputError
from prv2cli.files.disk_array import SpooledArray
from prv2cli.resampling.area import reduce_spooled, shrink_spooled
from prv2cli.restoration.back_projection import blur

ASPECT_TOLERANCE = 0.02
ALIASING = 2  # photographs larger than this many times a network's input are area-averaged
WIDE_EDGES = 16.0  # pixels (standard deviation): a pass at full size does not reach across wider ones
_MEASURED_BEHIND = 2.0  # px, of a Gaussian
_ROUNDING = 1e-6  # of log-depth
_BAND_PIXELS = 1 << 20


def check_aspect(coarse: Sequence[int], photograph: Sequence[int]) -> None:
    """Refuse a coarse map (rows, columns) of another aspect than the photograph. Raises InputError."""
    if len(coarse) != 2 or 0 in coarse:
        raise InputError(f"the coarse depth map must be (h, w) with pixels in it, not {tuple(coarse)}")
    (height, width), (rows, columns) = photograph, coarse
    # A map of a few pixels cannot have the exact aspect: half a pixel of rounding is no mismatch.
    slack = ASPECT_TOLERANCE + 0.5 / min(rows, columns)
    if abs((columns / rows) / (width / height) - 1) > slack:
        raise InputError(
            f"the coarse depth map is {columns}x{rows}, the photograph {width}x{height}: the aspects differ by more "
            f"than {ASPECT_TOLERANCE:.0%}. Crop or rotate one of them (was the photograph turned upright?)"
        )


def edge_width(log_depth: Tensor) -> float:
    """Standard deviation, in pixels, of the blur that the sharper edges of a (1, 1, h, w) map of log-depth have seen.

    Across a step blurred by a Gaussian of width s, the gradient g and its derivative g' obey s^2 = sum(g^4) /
    (4 sum(g^2 g'^2)); the fourth power makes the strong edges count, and flat parts nothing. It is measured behind a
    blur more, which hides noise and the corners of an up-sampled map; its variance is taken off. 0 for a flat map.
    """
    fourth = mixed = 0.0
    log_depth = blur(log_depth, _MEASURED_BEHIND)
    for axis in (2, 3):
        if log_depth.shape[axis] < 4:
            continue
        gradient = log_depth.diff(dim=axis)
        length = gradient.shape[axis] - 1
        central = (gradient.narrow(axis, 0, length) + gradient.narrow(axis, 1, length)) / 2
        change = gradient.diff(dim=axis)
        fourth += float(central.double().pow(4).sum())
        mixed += 4 * float((central * change).double().square().sum())
    # Rounding is all the change there is in a flat map.
    if mixed <= _ROUNDING**4 * log_depth.numel():
        return 0.0
    return math.sqrt(max(0.0, fourth / mixed - _MEASURED_BEHIND**2))


def fill_holes(depth: Tensor, valid: Tensor) -> Tensor:
    """Fill invalid pixels of (1, 1, h, w) from their surroundings: mean of log-depth at the finest scale that has any.

    Valid pixels stay bit for bit as they are, and holes take nothing but valid values.
    """
    if bool(valid.all()):
        return depth
    weight = valid.float()
    levels = [(torch.where(valid, depth, torch.ones_like(depth)).log() * weight, weight)]
    while min(levels[-1][0].shape[-2:]) > 1 or max(levels[-1][0].shape[-2:]) > 1:
        total, weight = levels[-1]
        levels.append((_halve(total), _halve(weight)))
    filled = levels[-1][0] / levels[-1][1].clamp_min(1e-12)
    for total, weight in reversed(levels[:-1]):
        below = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, total / weight.clamp_min(1e-12), below)
    return torch.where(valid, depth, filled.exp())


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


@overload
def reduce_photograph(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray: ...
@overload
def reduce_photograph(rgb: SpooledArray, size: tuple[int, int]) -> SpooledArray | np.ndarray: ...
def reduce_photograph(rgb: np.ndarray | SpooledArray, size: tuple[int, int]) -> np.ndarray | SpooledArray:
    """(H, W, 3) uint8 or uint16 -> (*size, 3) of the same type, area-averaged; on disk where both are large."""
    if isinstance(rgb, SpooledArray):
        return reduce_spooled(rgb, size)
    scale = 255 if rgb.dtype == np.uint8 else 65535
    small = shrink(rgb, size)[0].permute(1, 2, 0).numpy()
    return np.round(small * scale).astype(rgb.dtype)


def shrink(rgb: np.ndarray | SpooledArray, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 or uint16 -> (1, 3, *size) float in 0..1, area-averaged without a full-size float copy."""
    if isinstance(rgb, SpooledArray):
        small = shrink_spooled(rgb, size)
    elif rgb.dtype == np.uint8:
        small = np.asarray(_average(rgb, size), np.float32) / 255
    else:
        channels = [_average(rgb[..., c].astype(np.float32), size) for c in range(3)]
        small = np.stack([np.asarray(channel) for channel in channels], axis=-1) / 65535
    return torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))[None]


def resize_photograph(rgb: np.ndarray | SpooledArray, size: tuple[int, int]) -> Tensor:
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
