"""The size at which an image processor of transformers gets a photograph, and the aspect of the map that comes back.

photograph ─ plan_input ─ pixels ─ processor ─ network ─ post-processing ─ covering
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prv2cli.files.disk_array import DiskArray
from prv2cli.resampling.area import shrink

Size = tuple[int, int]  # rows, columns

# The processor gets photographs of at most this many times the network's input: area-averaged, every pixel counts, and
# what is left to its own interpolation, which may not be antialiased, misses nothing.
REDUCTION = 2
# Networks that take any size are run at no more pixels than this, about the images that GLPN and DINOv2's depth heads
# were trained on; far larger ones they have never seen.
FREE_PIXELS = 480 * 640
MAX_ASPECT = 4  # strips longer than this are run at a smaller size: memory stays bounded
MIN_SIDE = 32  # the deepest stride of these networks
SIDE_MULTIPLE = 32


@dataclass(frozen=True)
class InputPlan:
    """The size at which a processor gets a photograph, and settings of its own to replace in the call."""

    size: Size
    overrides: dict[str, Any]


def plan_input(processor: Any, photograph: Size) -> InputPlan:
    """How a photograph is handed to an image processor: never much larger than what the network will see.

    A photograph of up to REDUCTION times the network's input goes as it is; what transformers documents for the model
    happens then. Larger ones are reduced to that, with the aspect that the processor would see.
    """
    overrides: dict[str, Any] = (
        {"do_center_crop": False} if getattr(processor, "do_center_crop", None) else {}
    )
    nominal = _nominal_size(processor)
    if nominal is None:
        return InputPlan(_free_size(processor, photograph), overrides)
    target: tuple[float, float] = nominal
    if getattr(processor, "keep_aspect_ratio", False):
        scale = max(nominal[0] / photograph[0], nominal[1] / photograph[1])
        target = (scale * photograph[0], scale * photograph[1])
        if max(photograph) > MAX_ASPECT * min(photograph):
            target = _strip_size(photograph, nominal)
            size = {"height": target[0], "width": target[1]}
            overrides |= {"size": size, "keep_aspect_ratio": False}
    rows, columns = (
        max(MIN_SIDE, min(side, round(REDUCTION * wanted)))
        for side, wanted in zip(photograph, target, strict=True)
    )
    return InputPlan((rows, columns), overrides)


def _nominal_size(processor: Any) -> Size | None:
    """Height and width that a processor resizes to; None where it takes the image's own."""
    size = getattr(processor, "size", None)
    if not getattr(processor, "do_resize", False) or size is None:
        return None
    height, width, shortest = (_number(size, key) for key in ("height", "width", "shortest_edge"))
    if height and width:
        return height, width
    return (shortest, shortest) if shortest else None


def _number(settings: Any, key: str) -> int | None:
    """A setting of a processor; its sizes are dictionaries or objects, depending on transformers' version."""
    value = settings.get(key) if isinstance(settings, dict) else getattr(settings, key, None)
    return int(value) if value else None


def _strip_size(photograph: Size, nominal: Size) -> Size:
    """A size of a strip's aspect whose longer side is MAX_ASPECT times the nominal one."""
    longer = MAX_ASPECT * max(nominal)
    shorter = max(MIN_SIDE, round(longer * min(photograph) / max(photograph)))
    return (shorter, longer) if photograph[0] < photograph[1] else (longer, shorter)


def _free_size(processor: Any, photograph: Size) -> Size:
    """The size for a network that takes any: at most FREE_PIXELS, in multiples of what it needs.

    Processors fill up to the multiple with a border that their post-processing leaves in; so nothing is left to fill.
    """
    multiple = _number(processor, "size_divisor") or SIDE_MULTIPLE
    resizes = getattr(processor, "do_resize", False)  # GLPN's: down to its multiple
    if resizes and min(photograph) >= multiple and photograph[0] * photograph[1] <= FREE_PIXELS:
        return photograph
    scale = min(1.0, math.sqrt(FREE_PIXELS / (photograph[0] * photograph[1])))
    longest = MAX_ASPECT * math.sqrt(FREE_PIXELS)
    rows, columns = (max(1, round(min(scale * side, longest) / multiple)) * multiple for side in photograph)
    return rows, columns


def pixels(rgb: np.ndarray | DiskArray, size: Size) -> Tensor:
    """(3, *size) in 0..255, the range that processors expect: uint8 as it was, or float32 where reduced or 16-bit."""
    if isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and rgb.shape[:2] == size:
        return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    return shrink(rgb, size)[0] * 255
