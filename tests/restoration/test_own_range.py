"""A refined map stays within what the coarse map shows around: halos and crumbs go, edges stay where they were put."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from prv2cli.files.disk_array import bands
from prv2cli.restoration import own_range
from prv2cli.restoration.own_range import SLACK, keep_in_range, keep_to_measured

HEIGHT, WIDTH = 90, 140


def _two_surfaces(edge: float, height: int = HEIGHT, width: int = WIDTH, ramp: float = 4) -> np.ndarray:
    """-1 on the left, 1 on the right of a soft edge (a share of the width)."""
    x = (np.arange(width) + 0.5) / width - edge
    return np.tile(np.clip(x * width / ramp, -1, 1).astype(np.float32), (height, 1))


def _coarse(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)[None, None]


def test_halos_and_crumbs_are_cut_off() -> None:
    refined = _two_surfaces(0.5, ramp=0.1)
    refined[:, WIDTH // 2 : WIDTH // 2 + 2] = 1.6  # a rim
    refined[20:24, 10:14] = 0.0  # a crumb far from the edge: the other surface is not around
    keep_in_range(refined, _coarse(_two_surfaces(0.5)), 2.0)
    assert float(refined.max()) == pytest.approx(1 + SLACK)
    assert float(np.abs(refined[20:24, 10:14] + 1).max()) == pytest.approx(SLACK, abs=1e-5)


def test_an_edge_may_move_within_reach() -> None:
    moved = _two_surfaces(0.5 + 2 / WIDTH, ramp=0.1)
    found = moved.copy()
    keep_in_range(found, _coarse(_two_surfaces(0.5, ramp=3)), 2.0)
    np.testing.assert_array_equal(found, moved)


def test_measured_pixels_do_not_take_the_depth_of_a_filled_hole() -> None:
    """What lies in a hole is a guess: beside it the result stays with what was measured, in it anything goes."""
    coarse = np.full((HEIGHT, WIDTH), -1, np.float32)
    coarse[30:50, 60:80] = 1
    measured = coarse < 0
    moved = np.pad(~measured, 2)[:-4, :-4]  # the hole, 2 px away from itself
    refined = np.where(moved, 1, -1).astype(np.float32)
    kept, free = refined.copy(), refined.copy()
    keep_to_measured(kept, _coarse(coarse), 2.0, torch.from_numpy(measured)[None, None])
    keep_in_range(free, _coarse(coarse), 2.0)
    np.testing.assert_allclose(kept[measured], -1, atol=SLACK)
    np.testing.assert_array_equal(kept[~measured], refined[~measured])
    np.testing.assert_array_equal(free, refined)


def test_no_filled_value_reaches_a_measured_pixel_of_an_enlarged_map() -> None:
    coarse = np.full((30, 40), -1, np.float32)
    coarse[10:20, 15:25] = 1
    measured = coarse < 0
    refined = np.full((300, 400), 5, np.float32)
    keep_in_range(refined, _coarse(coarse), 5.0)
    keep_to_measured(refined, _coarse(coarse), 5.0, torch.from_numpy(measured)[None, None])
    assert float(refined[measured.repeat(10, 0).repeat(10, 1)].max()) == pytest.approx(-1 + SLACK)
    assert float(refined[150, 200]) == pytest.approx(1 + SLACK)


def test_measured_pixels_of_a_small_map_by_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    refined = generator.normal(0, 2, (HEIGHT, WIDTH)).astype(np.float32)
    coarse = _coarse(generator.normal(0, 0.5, (30, 47)).astype(np.float32))
    measured = torch.from_numpy(generator.random((30, 47)) < 0.5)[None, None]
    whole, banded = refined.copy(), refined.copy()
    keep_to_measured(whole, coarse, 1.5, measured)
    assert np.isfinite(whole).all()
    monkeypatch.setattr(own_range, "bands", lambda h, w: (slice(y, min(y + 7, h)) for y in range(0, h, 7)))
    keep_to_measured(banded, coarse, 1.5, measured)
    np.testing.assert_array_equal(whole, banded)


def test_behind_a_blurred_map_only_the_far_side_is_cut_off() -> None:
    refined = _two_surfaces(0.5, ramp=0.1)
    refined[20:24, 10:14] = -3  # nearer than all around, as a wire before the near surface is
    refined[20:24, -14:-10] = 3
    keep_in_range(refined, _coarse(_two_surfaces(0.5)), 2.0, only_blurred=True)
    assert float(refined[20:24, 10:14].max()) == -3
    assert float(refined.max()) == pytest.approx(1 + SLACK)


@pytest.mark.parametrize("size", [(23, 35), (HEIGHT, WIDTH), (300, 400)])
def test_maps_of_any_size(size: tuple[int, int]) -> None:
    refined = np.full((HEIGHT, WIDTH), 5, np.float32)
    keep_in_range(refined, _coarse(_two_surfaces(0.5, *size, ramp=1)), 1.0)
    assert float(refined[:, :40].max()) == pytest.approx(-1 + SLACK)
    assert float(refined[:, -40:].min()) == pytest.approx(1 + SLACK)


@pytest.mark.parametrize("side", [40, 1024])
def test_bands_give_the_same(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setattr(own_range, "GRID_SIDE", side)
    generator = np.random.default_rng(0)
    refined = generator.normal(0, 2, (HEIGHT, WIDTH)).astype(np.float32)
    coarse = _coarse(generator.normal(0, 0.5, (30, 47)).astype(np.float32))
    whole, banded = refined.copy(), refined.copy()
    keep_in_range(whole, coarse, 1.5)
    assert not np.array_equal(whole, refined)
    monkeypatch.setattr(own_range, "bands", lambda h, w: (slice(y, min(y + 7, h)) for y in range(0, h, 7)))
    keep_in_range(banded, coarse, 1.5)
    np.testing.assert_array_equal(whole, banded)
    assert len(list(bands(HEIGHT, WIDTH))) == 1


def test_a_wide_reach_is_a_window_of_that_width() -> None:
    """The window is grown in steps."""
    coarse = torch.zeros(1, 1, 100, 100)
    coarse[0, 0, 50, 50] = 1
    found = own_range._largest(coarse, [100, 100], 21)
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (29, 71, 29, 71)
    assert len(rows) == 43 * 43
