"""Where tiles lie and how much each counts. numpy only: knows no model.

The default plan is one overlapped grid of nearly equal tiles. Along each axis the tiles' feathered windows are
divided by their sum, so the products of rows and columns sum to one at every pixel: no weight map is kept, and an
image of any size needs one accumulator, its own result.

The authors' tilings (m1, m2, rN; docs/method.md 2.5) overlap irregularly; an accumulated weight map normalises them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prv2cli.errors import UsageError

PAPER_SPLIT = 4
PAPER_INSET = 0.15
REDUCED = 2  # divisor of the photograph's size in the pass before the one at full size
_EDGE_TRIM = (
    0.125  # of the overlap: pixels nearest to a tile's border, where zero padding shows, count nothing
)


@dataclass(frozen=True)
class Span:
    """Where a tile lies along one axis, and its window there. May reach beyond the image: that part counts nothing."""

    start: int
    length: int
    window: np.ndarray  # (length,) float32


@dataclass(frozen=True)
class Tile:
    """A tile and its separable window: `rows` x `columns`, in pixels of the image."""

    rows: Span
    columns: Span

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 as fractions of the image; beyond 0..1 where the tile reaches beyond it."""
        rows, columns = self.rows, self.columns
        return (
            columns.start / width,
            rows.start / height,
            (columns.start + columns.length) / width,
            (rows.start + rows.length) / height,
        )


@dataclass(frozen=True)
class TilePlan:
    """All tiles of an image. `sums_to_one`: the windows already sum to one at every pixel."""

    height: int
    width: int
    tiles: tuple[Tile, ...]
    sums_to_one: bool
    description: str


def plan_tiles(height: int, width: int, tile: tuple[int, int], overlap: float, multiple: int) -> TilePlan:
    """One overlapped grid of tiles of at most `tile` (rows, columns), each side a multiple of `multiple`.

    Args:
        overlap: share of a tile that it has in common with its neighbour, 0 <= overlap <= 0.5.
    """
    rows = _spans(height, tile[0], overlap, multiple)
    columns = _spans(width, tile[1], overlap, multiple)
    tiles = tuple(Tile(r, c) for r in rows for c in columns)
    text = f"grid {len(rows)}x{len(columns)} of {rows[0].length}x{columns[0].length}, overlap {overlap:g}"
    return TilePlan(height, width, tiles, True, text)


def _spans(length: int, tile: int, overlap: float, multiple: int) -> list[Span]:
    """Tiles along one axis, evenly spread, just long enough for their number, windows summing to one."""
    if length <= tile:
        size = math.ceil(length / multiple) * multiple
        return [Span(0, size, np.ones(size, np.float32))]
    shared = max(2, round(tile * overlap))
    count = math.ceil((length - shared) / (tile - shared))
    # As many tiles as that, but no longer than they need be: the rest would be computed twice.
    size = min(tile, math.ceil((length + (count - 1) * shared) / count / multiple) * multiple)
    starts = [round(i * (length - size) / (count - 1)) for i in range(count)]
    return _normalised_spans(length, starts, size, shared)


def _normalised_spans(length: int, starts: Sequence[int], size: int, shared: int) -> list[Span]:
    windows = []
    for i, start in enumerate(starts):
        left = starts[i - 1] + size - start if i else 0
        right = start + size - starts[i + 1] if i + 1 < len(starts) else 0
        windows.append(feather(size, left, right))
    total = np.zeros(length, np.float64)
    for start, window in zip(starts, windows, strict=True):
        total[start : start + size] += window
    return [
        Span(start, size, (window / total[start : start + size]).astype(np.float32))
        for start, window in zip(starts, windows, strict=True)
    ]


def feather(size: int, left: int, right: int) -> np.ndarray:
    """1 in the middle, a raised-cosine ramp over the overlap with each neighbour (0 = no neighbour there)."""
    window = np.ones(size)
    for overlap, side in ((left, window), (right, window[::-1])):
        if overlap > 0:
            trim = int(overlap * _EDGE_TRIM)
            ramp = np.clip((np.arange(overlap) - trim + 0.5) / (overlap - 2 * trim), 0, 1)
            side[:overlap] *= 0.5 - 0.5 * np.cos(np.pi * ramp)
    return window


def overlaps(plan: TilePlan) -> bool:
    """Whether any pixel is seen by more than one tile. The tiles cover the image, so their areas tell."""
    seen = sum(
        np.count_nonzero(tile.rows.window[: plan.height - tile.rows.start])
        * np.count_nonzero(tile.columns.window[: plan.width - tile.columns.start])
        for tile in plan.tiles
    )
    return bool(seen > plan.height * plan.width)


def parse_mode(mode: str | None) -> tuple[str, int]:
    """`m1`, `m2` or `rN` -> ("m1" | "m2" | "r", N). None is our own grid: ("grid", 0). Raises UsageError."""
    if mode is None:
        return "grid", 0
    if mode in ("m1", "m2"):
        return mode, 0
    match = re.fullmatch(r"r([1-9]\d{0,4})", mode)
    if not match:
        raise UsageError(
            f"--mode {mode}: use m1, m2 or rN, e.g. r32 (or leave it out for the overlapped grid)"
        )
    return "r", int(match[1])


def plan_paper_tiles(height: int, width: int, mode: str, seed: int, multiple: int) -> TilePlan:
    """The paper's tilings at the image's own resolution: a 4x4 grid (m1), plus shifted grids (m2), plus N random (rN).

    Each tile is run at the next multiple of `multiple`; what lies beyond its own part counts nothing. Windows are a
    box inset by 15 % with cosine shoulders, never zero inside the tile.
    """
    kind, count = parse_mode(mode)
    rows, columns = math.ceil(height / PAPER_SPLIT), math.ceil(width / PAPER_SPLIT)
    corners = _grid_corners(height, width, rows, columns, 0, 0)
    if kind in ("m2", "r"):
        for shift_rows, shift_columns in ((0, columns // 2), (rows // 2, 0), (rows // 2, columns // 2)):
            corners += _grid_corners(height, width, rows, columns, shift_rows, shift_columns)
    if kind == "r":
        rng = np.random.default_rng(seed)
        corners += [
            (int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)))
            for _ in range(count)
        ]
    window_rows, window_columns = _paper_window(rows, multiple), _paper_window(columns, multiple)
    tiles = tuple(
        Tile(Span(top, len(window_rows), window_rows), Span(left, len(window_columns), window_columns))
        for top, left in corners
    )
    return TilePlan(height, width, tiles, False, f"paper {mode}: {len(tiles)} tiles of {rows}x{columns}")


def _grid_corners(
    height: int, width: int, rows: int, columns: int, shift_rows: int, shift_columns: int
) -> list[tuple[int, int]]:
    """Corners of the grid shifted by some pixels; tiles of a shifted grid that would leave the image are dropped."""
    tops = range(shift_rows, height - (rows if shift_rows else 1) + 1, rows)
    lefts = range(shift_columns, width - (columns if shift_columns else 1) + 1, columns)
    return [
        (max(0, min(top, height - rows)), max(0, min(left, width - columns)))
        for top in tops
        for left in lefts
    ]


def _paper_window(size: int, multiple: int) -> np.ndarray:
    inset = max(1, round(size * PAPER_INSET))
    window = np.zeros(math.ceil(size / multiple) * multiple, np.float32)
    ramp = np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5) / inset
    window[:size] = np.maximum(1e-3, 0.5 - 0.5 * np.cos(np.pi * np.clip(ramp, 0, 1)))
    return window
