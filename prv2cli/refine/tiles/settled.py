"""Where a pass at half size leaves nothing for the one at full size to do: most of many a photograph.

What the pass at full size adds is the last sharpness of edges. Where the map has none, as in the sky, on walls and on
the ground, the network gives back what it was shown; those tiles, and the sides of tiles, need not go through it.

    map at half size ─ bends by cells ─> edges    tile ─ the parts with edges, and some around ─> pieces
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from prv2cli.tiling.plan import REDUCED, Span, Tile, feather

CELL = 8  # pixels of the photograph
EDGE = 0.02  # of log-depth: a lower step is none
AROUND = 48  # pixels around edges that the network sees too
WORTH = 0.9  # of what a box would cost, below which it is divided


def edges_after(half: np.ndarray, contrast: float) -> np.ndarray:
    """Where a map still has edges: (rows, columns) bool, cells of CELL pixels at twice its size.

    Args:
        half: (h, w) the map after the pass at half size, three cells each way at least.
        contrast: log-depth of one unit of it.
    """
    cells = F.avg_pool2d(torch.from_numpy(half)[None, None], CELL // REDUCED, ceil_mode=True)
    down = F.pad(cells.diff(dim=2).diff(dim=2).abs(), (0, 0, 1, 1), mode="replicate")
    along = F.pad(cells.diff(dim=3).diff(dim=3).abs(), (1, 1, 0, 0), mode="replicate")
    return (torch.maximum(down, along)[0, 0] * contrast > EDGE).numpy()


def pieces_of(tile: Tile, edges: np.ndarray, multiple: int) -> list[Tile]:
    """The parts of a tile that hold its edges, with AROUND pixels of their surroundings; none where it has none.

    Their windows fade towards the rest of the tile.

    Args:
        edges: of the whole photograph (edges_after). multiple: of pixels that their sides have, as the tile's.
    """
    rows, columns = _cells(tile.rows, edges.shape[0]), _cells(tile.columns, edges.shape[1])
    return [
        Tile(_span(tile.rows, box.rows, multiple), _span(tile.columns, box.columns, multiple))
        for box in _boxes(edges[rows, columns], rows.start, columns.start)
    ]


class _Box(NamedTuple):
    """Cells: rows and columns, each from the first to the one after the last."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def area(self) -> int:
        """Pixels that the network sees for it, but for what makes its sides multiples."""
        (top, bottom), (left, right) = self
        return ((bottom - top) * CELL + 2 * AROUND) * ((right - left) * CELL + 2 * AROUND)


def _boxes(seen: np.ndarray, top: int, left: int) -> list[_Box]:
    """Boxes around what is seen; divided at the widest gap where that leaves less to compute."""
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    whole = _Box(
        (top + int(rows[0]), top + int(rows[-1]) + 1), (left + int(columns[0]), left + int(columns[-1]) + 1)
    )
    (gap, cut), axis = max((_widest_gap(rows), 0), (_widest_gap(columns), 1))
    if (gap - 1) * CELL < 2 * AROUND:
        return [whole]
    before, after = np.split(seen, [cut], axis=axis)
    parts = _boxes(before, top, left)
    parts += _boxes(after, top + cut, left) if axis == 0 else _boxes(after, top, left + cut)
    return parts if sum(part.area for part in parts) < WORTH * whole.area else [whole]


def _widest_gap(lines: np.ndarray) -> tuple[int, int]:
    """From one of these lines to the next, and where to cut there."""
    gaps = np.diff(lines)
    if not len(gaps):
        return 0, 0
    widest = int(gaps.argmax())
    return int(gaps[widest]), int(lines[widest]) + 1


def _cells(span: Span, count: int) -> slice:
    first = min(span.start // CELL, count - 1)
    return slice(first, max(first + 1, min(count, math.ceil((span.start + span.length) / CELL))))


def _span(span: Span, cells: tuple[int, int], multiple: int) -> Span:
    """The part of a span with these cells, in steps of `multiple` from its start."""
    first = max(0, cells[0] * CELL - AROUND - span.start)
    last = min(span.length, cells[1] * CELL + AROUND - span.start)
    before, end = first // multiple * multiple, math.ceil(last / multiple) * multiple
    ramps = (AROUND if before else 0, AROUND if end < span.length else 0)
    return Span(span.start + before, end - before, feather(end - before, *ramps).astype(np.float32))
