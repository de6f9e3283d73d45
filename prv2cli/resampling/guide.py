"""The small copies of a photograph and its coarse map that guide the tiles: of which size, and how they get it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def guide_size(height: int, width: int, stride: int, max_side: int) -> tuple[int, int]:
    """Size of the down-sampled photograph that guides: 1/stride of it, its longer side at most `max_side`."""
    scale = min(1 / stride, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def to_guide(image: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, h, w) at the guide's size: averaged where it is larger, bilinear where it is smaller."""
    if image.shape[-2] >= size[0] and image.shape[-1] >= size[1]:
        return F.interpolate(image, size=tuple(size), mode="area")
    return F.interpolate(image, size=tuple(size), mode="bilinear", align_corners=False)
