"""Second differences of a map at several scales: planes and straight edges have none, so they tell of noise.

Immerkaer, "Fast noise variance estimation", CVIU 1996, here along the rows and along the columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from prv2cli.resampling.extremes import largest_around
from prv2cli.resampling.guide import to_guide

REDUCTIONS = (1, 2, 4, 8, 16)
OF_NOISE = 0.3186 * 6  # their quarter quantile over the standard deviation, of Gaussian noise
SAMPLES = 1 << 17  # of them are as good as all


def by_scale(cells: Tensor, smallest: int, measured: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
    """Of (1, 1, h, w), at each reduction that leaves `smallest` on the shorter side: it, and their absolute values.

    measured: (1, 1, any size) bool, False where the map was filled, which is smooth: those are left out, unless hardly
    any others are left.
    """
    for reduction in REDUCTIONS:
        size = [side // reduction for side in cells.shape[-2:]]
        if min(size) < smallest:
            return
        second = to_guide(cells, size)
        for axis in (2, 3):
            second = second.diff(dim=axis).diff(dim=axis)
        values = second.abs().flatten()
        if measured is not None:
            filled = largest_around(to_guide((~measured).float(), size), 1)[..., 1:-1, 1:-1] > 0
            known = values[~filled.flatten()]
            values = known if len(known) >= smallest**2 else values
        yield reduction, values
