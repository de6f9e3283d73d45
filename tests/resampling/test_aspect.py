"""Whether two sizes show the same view."""

from __future__ import annotations

import pytest

from prv2cli.resampling.aspect import same_aspect


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((518, 686), (3024, 4032), True),  # rounded to patches
        ((5, 7), (160, 240), True),  # of a few pixels: 7.5 would be exact
        ((160, 240), (240, 160), False),
        ((518, 518), (3024, 4032), False),
        ((1000, 1025), (1000, 1000), False),
        ((1000, 1015), (1000, 1000), True),
    ],
)
def test_same_aspect(first: tuple[int, int], second: tuple[int, int], same: bool) -> None:
    assert same_aspect(first, second) == same
    assert same_aspect(second, first) == same
