"""Means that pixels of a small map hold of a larger grid, of all cells or of groups of them."""

from __future__ import annotations

import numpy as np
import pytest

from prv2cli.restoration.noise.footprints import Footprints, Shares

RNG = np.random.default_rng(0)


def test_whole_pixels_are_means_of_blocks() -> None:
    values = RNG.random((12, 20))
    found = Footprints.of((12, 20), (3, 4)).means(values.ravel())
    assert found.reshape(3, 4) == pytest.approx(values.reshape(3, 4, 4, 5).mean(axis=(1, 3)))


@pytest.mark.parametrize("small", [(3, 4), (5, 7), (12, 20), (1, 1)])
def test_every_cell_has_one_pixel_and_every_pixel_cells(small: tuple[int, int]) -> None:
    footprints = Footprints.of((12, 20), small)
    assert len(footprints.area) == small[0] * small[1]
    assert footprints.area.min() >= 1
    assert footprints.area.sum() == 12 * 20
    rows = footprints.owner.reshape(12, 20) // small[1]
    assert (np.diff(rows, axis=0) >= 0).all()
    assert (np.diff(rows, axis=0) <= 1).all()


def test_groups_of_cells() -> None:
    footprints, groups = Footprints.of((12, 20), (3, 4)), RNG.integers(0, 30, 240)
    groups[:30] = range(30)  # each is there
    shares = Shares.of(footprints, groups)
    matrix = np.array([shares.means(one) for one in np.eye(30)]).T
    values, weights = RNG.random(30), RNG.random(12)
    assert shares.means(values) == pytest.approx(footprints.means(values[groups]))
    assert matrix.sum(axis=1) == pytest.approx(1)
    assert shares.transposed(weights) == pytest.approx(matrix.T @ weights)
    assert shares.diagonal(weights) == pytest.approx(np.diag(matrix.T @ np.diag(weights) @ matrix))
