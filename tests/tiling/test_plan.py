"""Tiles cover every image, windows sum to one, blending returns what was cut."""

from __future__ import annotations

import numpy as np
import pytest

from prv2cli.errors import UsageError
from prv2cli.tiling.blend import Blender, seam_excess
from prv2cli.tiling.plan import TilePlan, parse_mode, plan_paper_tiles, plan_tiles

SIZES = [(1, 1), (1, 500), (63, 64), (555, 620), (704, 704), (705, 1400), (2160, 3840), (1000, 3)]


def _weight_map(plan: TilePlan) -> np.ndarray:
    total = np.zeros((plan.height, plan.width))
    for tile in plan.tiles:
        rows, columns = tile.rows, tile.columns
        window = (rows.window[:, None] * columns.window[None])[
            : plan.height - rows.start, : plan.width - columns.start
        ]
        total[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length] += window
    return total


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("tile", "overlap"), [((128, 192), 0.1), ((704, 704), 0.1), ((64, 64), 0.5), ((256, 256), 0.0)]
)
def test_windows_sum_to_one_everywhere(
    height: int, width: int, tile: tuple[int, int], overlap: float
) -> None:
    plan = plan_tiles(height, width, tile, overlap, 64)
    np.testing.assert_allclose(_weight_map(plan), 1, atol=1e-6)


def test_the_largest_photograph_is_planned_without_touching_its_pixels() -> None:
    plan = plan_tiles(20_000, 30_000, (704, 704), 0.1, 64)
    assert all(t.rows.length % 64 == 0 and t.columns.length % 64 == 0 for t in plan.tiles)
    for spans, extent in (([t.rows for t in plan.tiles], 20_000), ([t.columns for t in plan.tiles], 30_000)):
        total = np.zeros(extent)
        for start, span in {s.start: s for s in spans}.items():
            total[start : start + span.length] += span.window[: extent - start]
        np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("mode", [None, "m1", "m2", "r5"])
def test_blending_tiles_cut_from_a_map_returns_it(height: int, width: int, mode: str | None) -> None:
    known = np.random.default_rng(0).random((height, width), dtype=np.float32)
    plan = (
        plan_tiles(height, width, (128, 192), 0.1, 64)
        if mode is None
        else plan_paper_tiles(height, width, mode, 3, 64)
    )
    blender = Blender(plan)
    for tile in plan.tiles:
        rows, columns = tile.rows, tile.columns
        cut = known[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
        pad = ((0, rows.length - cut.shape[0]), (0, columns.length - cut.shape[1]))
        blender.add(
            tile, np.pad(cut, pad, constant_values=np.nan)
        )  # what lies beyond the image must not count
    assert np.abs(blender.finish().values - known).max() < 1e-6


@pytest.mark.parametrize(("height", "width"), [(2160, 3840), (540, 960), (517, 777)])
def test_paper_modes_have_the_papers_numbers_of_tiles(height: int, width: int) -> None:
    if height % 8 == 0 and width % 8 == 0:
        assert len(plan_paper_tiles(height, width, "m1", 0, 64).tiles) == 16
        assert len(plan_paper_tiles(height, width, "m2", 0, 64).tiles) == 16 + 12 + 12 + 9
        assert len(plan_paper_tiles(height, width, "r32", 0, 64).tiles) == 49 + 32
    for mode in ("m1", "m2", "r4"):
        assert (_weight_map(plan_paper_tiles(height, width, mode, 0, 64)) > 0).all()


def test_random_tiles_follow_the_seed() -> None:
    def corners(seed: int) -> list[tuple[int, int]]:
        return [(t.rows.start, t.columns.start) for t in plan_paper_tiles(400, 600, "r9", seed, 64).tiles]

    assert corners(1) == corners(1) != corners(2)


@pytest.mark.parametrize("mode", ["m3", "r", "r0", "r-1", "M1", ""])
def test_a_wrong_mode_is_named(mode: str) -> None:
    with pytest.raises(UsageError, match="--mode"):
        parse_mode(mode)


def test_the_seam_figure_sees_a_seam_and_nothing_else() -> None:
    plan = plan_tiles(600, 800, (256, 256), 0.1, 64)
    smooth = np.random.default_rng(1).normal(0, 1, (600, 800)).astype(np.float32)
    assert abs(seam_excess(smooth, plan)) < 0.05
    border = plan.tiles[0].columns.length
    broken = smooth.copy()
    broken[:, border:] += 5
    assert seam_excess(broken, plan) > 0.1  # one border of six is broken
    assert seam_excess(np.zeros((600, 800), np.float32), plan) == 0


def test_the_seam_figure_of_a_strip_without_neighbours_is_a_number() -> None:
    plan = plan_paper_tiles(64, 2, "m1", 0, 32)
    assert np.isfinite(seam_excess(np.random.default_rng(1).normal(0, 1, (64, 2)), plan))


def test_a_depth_edge_under_a_border_is_no_seam() -> None:
    plan = plan_tiles(600, 800, (256, 256), 0.1, 64)
    values = np.random.default_rng(1).normal(0, 0.1, (600, 800)).astype(np.float32)
    border = plan.tiles[0].columns.length
    values[100:160, border:] += 5  # a tenth of the border's length
    assert seam_excess(values, plan) < 0.1
