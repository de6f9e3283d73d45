"""Networks over several images at once: those of one size go in one call, whose results are given back one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

MOST_AT_ONCE = 8  # images in a call: enough for a GPU, and no more memory than it has for the tiles


def call_per_size(
    function: Callable[..., Sequence[Tensor]], images: Sequence[Sequence[Tensor]]
) -> list[list[Tensor]]:
    """function(*tensors) of each image, in their order.

    Args:
        function: takes and gives tensors whose first axis is the image.
        images: for each the tensors (1, ...) that the function takes. Those of the same shapes share a call, up to
            MOST_AT_ONCE.

    Returns:
        For each image the function's tensors (1, ...).
    """
    found: list[list[Tensor]] = [[] for _ in images]
    for places, inputs in calls(images):
        outputs = function(*inputs)
        for row, place in enumerate(places):
            found[place] = [output[row : row + 1] for output in outputs]
    return found


def calls(images: Sequence[Sequence[Tensor]]) -> Iterator[tuple[list[int], list[Tensor]]]:
    """The calls that call_per_size makes: which of the images share one, and their tensors together, (B, ...)."""
    groups: dict[tuple[torch.Size, ...], list[int]] = {}
    for place, tensors in enumerate(images):
        groups.setdefault(tuple(tensor.shape for tensor in tensors), []).append(place)
    for group in groups.values():
        for first in range(0, len(group), MOST_AT_ONCE):
            places = group[first : first + MOST_AT_ONCE]
            columns = zip(*(images[place] for place in places), strict=True)
            yield places, [torch.cat(column) if len(column) > 1 else column[0] for column in columns]
