"""The largest and smallest value of a window, beside max_pool2d's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from prv2cli.resampling.extremes import largest_around, smallest_around


@pytest.mark.parametrize("radius", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("size", [(23, 31), (1, 7), (81, 90)])
def test_a_window_has_what_pooling_finds(radius: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    assert torch.equal(smallest_around(x, radius), -largest_around(-x, radius))
    for channel in (0, 1, 2):
        window = F.pad(x[:, channel : channel + 1], (radius,) * 4, value=-torch.inf)
        expected = F.max_pool2d(window, 2 * radius + 1, 1)
        assert torch.equal(largest_around(x, radius)[:, channel : channel + 1], expected)
