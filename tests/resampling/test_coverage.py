"""Area averages with pixels that are covered in part."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from prv2cli.resampling.coverage import average_area


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (6, 20), (29, 31), (28, 30)])
def test_each_pixel_is_the_mean_of_what_it_covers(size: tuple[int, int]) -> None:
    image = np.random.default_rng(4).integers(0, 65536, (29, 31, 3)).astype(np.uint16)
    rows, columns = (shares(n, m) for n, m in zip((29, 31), size, strict=True))
    expected = np.einsum("ay,bx,yxc->abc", rows, columns, image.astype(np.float64))
    assert np.abs(average_area(image, size) - expected).max() < 65535 * 1e-6


def shares(source: int, target: int) -> np.ndarray:
    """(target, source): how much of each pixel lies under each of the result's, in exact fractions."""
    scale = Fraction(source, target)

    def share(i: int, j: int) -> float:
        covered = min(Fraction(j + 1), (i + 1) * scale) - max(Fraction(j), i * scale)
        return float(max(Fraction(0), covered) / scale)

    return np.array([[share(i, j) for j in range(source)] for i in range(target)])
