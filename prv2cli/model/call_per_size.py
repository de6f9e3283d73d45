"""Networks over several images at once: those of one size go in one call, whose results are given back one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    groups: dict[tuple[torch.Size, ...], list[int]] = {}
    for place, tensors in enumerate(images):
        groups.setdefault(tuple(tensor.shape for tensor in tensors), []).append(place)
    found: list[list[Tensor]] = [[] for _ in images]
    calls = [
        group[i : i + MOST_AT_ONCE] for group in groups.values() for i in range(0, len(group), MOST_AT_ONCE)
    ]
    for places in calls:
        columns = zip(*(images[place] for place in places), strict=True)
        outputs = function(*(torch.cat(column) if len(column) > 1 else column[0] for column in columns))
        for row, place in enumerate(places):
            found[place] = [output[row : row + 1] for output in outputs]
    return found
