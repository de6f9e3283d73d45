"""Tiles where the pass at half size has left nothing to do are not refined again, and nobody can tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prv2cli import Refiner
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject
from prv2cli.refine.tiles.loop import TileLoop
from prv2cli.refine.tiles.settled import AROUND, CELL, EDGE, edges_after, pieces_of
from prv2cli.tiling.plan import Tile, plan_tiles

MULTIPLE = 32


def _cells(left: int, right: int, top: int, bottom: int, size: tuple[int, int]) -> np.ndarray:
    edges = np.zeros(size, bool)
    edges[top:bottom, left:right] = True
    return edges


def test_a_step_is_an_edge_and_a_slope_is_none() -> None:
    y, x = np.mgrid[0:96, 0:128].astype(np.float32)
    slope = 0.01 * x + 0.02 * y
    assert not edges_after(slope, 1.0).any()
    step = slope + (x >= 64)
    found = edges_after(step, 1.0)
    assert found.shape == (96 * 2 // CELL, 128 * 2 // CELL)
    columns = np.flatnonzero(found.any(axis=0))
    assert found[:, columns].all()
    assert set(columns) == {64 * 2 // CELL - 1, 64 * 2 // CELL}


def test_what_is_an_edge_depends_on_its_height_in_log_depth() -> None:
    step = np.zeros((64, 64), np.float32)
    step[:, 32:] = 1
    assert edges_after(step, 1.1 * EDGE).any()
    assert not edges_after(step, 0.9 * EDGE).any()


def test_sizes_that_no_cell_divides() -> None:
    half = np.zeros((37, 61), np.float32)
    half[36:, 58:] = 1
    edges = edges_after(half, 1.0)
    plan = plan_tiles(75, 123, (64, 64), 0.2, MULTIPLE)
    assert [len(pieces_of(tile, edges, MULTIPLE)) for tile in plan.tiles] == [0] * 5 + [1]


def test_a_piece_holds_the_edges_and_their_surroundings() -> None:
    tile = plan_tiles(768, 768, (768, 768), 0.1, MULTIPLE).tiles[0]
    edges = _cells(30, 34, 50, 51, (96, 96))
    (piece,) = pieces_of(tile, edges, MULTIPLE)
    for span, first, last in ((piece.rows, 50, 51), (piece.columns, 30, 34)):
        assert span.length % MULTIPLE == 0
        assert span.start % MULTIPLE == 0
        assert span.start <= first * CELL - AROUND
        assert span.start + span.length >= last * CELL + AROUND
        assert span.length < 768
        inside = span.window[first * CELL - span.start : last * CELL - span.start]
        assert (inside == 1).all()
        assert span.window[0] == span.window[-1] == 0


def test_at_the_sides_of_its_tile_a_piece_does_not_fade() -> None:
    tile = plan_tiles(768, 768, (768, 768), 0.1, MULTIPLE).tiles[0]
    (piece,) = pieces_of(tile, _cells(0, 2, 90, 96, (96, 96)), MULTIPLE)
    assert piece.columns.start == 0
    assert piece.columns.window[0] == 1
    assert piece.columns.window[-1] == 0
    assert piece.rows.start + piece.rows.length == 768
    assert piece.rows.window[-1] == 1


def _pixels(pieces: list[Tile]) -> int:
    return sum(piece.rows.length * piece.columns.length for piece in pieces)


def test_edges_far_apart_are_pieces_of_their_own() -> None:
    tile = plan_tiles(768, 768, (768, 768), 0.1, MULTIPLE).tiles[0]
    near, far = _cells(0, 4, 0, 4, (96, 96)), _cells(90, 96, 80, 96, (96, 96))
    both = pieces_of(tile, near | far, MULTIPLE)
    apart = pieces_of(tile, near, MULTIPLE) + pieces_of(tile, far, MULTIPLE)
    assert len(both) == 2
    for found, wanted in zip(both, apart, strict=True):
        assert found.box(768, 768) == wanted.box(768, 768)
    beside = near | _cells(8, 12, 0, 4, (96, 96))
    assert len(pieces_of(tile, beside, MULTIPLE)) == 1


def test_every_edge_lies_in_a_piece_at_its_full_weight() -> None:
    rng = np.random.default_rng(3)
    plan = plan_tiles(900, 1300, (512, 512), 0.1, MULTIPLE)
    for share in (0.0005, 0.005, 0.2):
        edges = rng.random((113, 163)) < share
        for tile in plan.tiles:
            pieces = pieces_of(tile, edges, MULTIPLE)
            assert _pixels(pieces) <= tile.rows.length * tile.columns.length
            weight = np.zeros((tile.rows.length, tile.columns.length), np.float32)
            for piece in pieces:
                top, left = piece.rows.start - tile.rows.start, piece.columns.start - tile.columns.start
                part = weight[top : top + piece.rows.length, left : left + piece.columns.length]
                np.maximum(part, piece.rows.window[:, None] * piece.columns.window, out=part)
            y = (np.arange(tile.rows.length) + tile.rows.start).clip(max=899) // CELL
            x = (np.arange(tile.columns.length) + tile.columns.start).clip(max=1299) // CELL
            assert (weight[edges[y][:, x]] == 1).all()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of each batch that goes through the network at full size."""
    real, sizes = TileLoop._refine_batch, []

    def counted(self: Any, part: Any, *rest: Any) -> Any:
        sizes.append(sum(piece.rows.length * piece.columns.length for _, piece in part))
        return real(self, part, *rest)

    monkeypatch.setattr(TileLoop, "_refine_batch", counted)
    monkeypatch.setattr("prv2cli.refine.prepare.PILOT_SIDE", 0)  # nothing else is refined
    return sizes


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_result_is_the_same_and_less_is_computed(
    refiner: Refiner, seen: list[int], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A soft edge in one corner of a plain wall: the rest of the photograph goes through the network once."""
    rng = np.random.default_rng(0)
    height, width = 512, 1024
    x = np.arange(width, dtype=np.float32)
    ramp = 0.5 * (1 + np.tanh((x - 150) / 30))
    depth = np.tile(2 + 3 * ramp, (height, 1)).astype(np.float32)
    rgb = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
    rgb[:, :150] += 150
    subject = Subject(rgb, given=GivenDepth(depth))
    request = RefineRequest.of(tile=256, batch_size=batch_size)
    short = refiner.run([subject], request)[0].depth
    less = sum(seen)
    seen.clear()
    monkeypatch.setattr("prv2cli.refine.prepare.edges_after", lambda *_: None)
    whole = refiner.run([subject], request)[0].depth
    assert less < 0.7 * sum(seen)
    assert np.abs(np.log(short / whole)).max() < 0.6 * EDGE


def test_where_nothing_has_an_edge_nothing_is_refined_at_full_size(refiner: Refiner, seen: list[int]) -> None:
    height, width = 256, 512
    depth = np.full((height, width), 3.0, np.float32) + np.linspace(0, 0.2, width, dtype=np.float32)
    rgb = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    found = refiner.run([Subject(rgb, given=GivenDepth(depth))], RefineRequest.of(tile=256))[0]
    assert np.allclose(found.depth, depth, rtol=0.01)
    assert sum(seen) <= (height // 2) * (width // 2) * 1.5  # the pass at half size alone
