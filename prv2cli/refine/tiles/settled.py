"""Where a pass at half size leaves nothing for the one at full size to do: most of many a photograph.

What the pass at full size adds is the last sharpness of edges. Where the map has none, as in the sky, on walls and on
the ground, the network gives back what it was shown; those tiles, and the sides of tiles, need not go through it.

    map at half size ─ bends by cells ─> edges    tile ─ the part with edges, and some around ─> piece
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from prv2cli.tiling.plan import REDUCED, Span, Tile, feather

CELL = 8  # pixels of the photograph
EDGE = 0.02  # of log-depth: a lower step is none
AROUND = 48  # pixels around edges that the network sees too


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


def piece_of(tile: Tile, edges: np.ndarray, multiple: int) -> Tile | None:
    """The part of a tile that holds its edges and AROUND pixels of their surroundings; None where it has none.

    Its windows fade towards the rest of the tile.

    Args:
        edges: of the whole photograph (edges_after). multiple: of pixels that its sides have, as the tile's.
    """
    rows, columns = _cells(tile.rows, edges.shape[0]), _cells(tile.columns, edges.shape[1])
    seen = edges[rows, columns]
    if not seen.any():
        return None
    return Tile(
        _span(tile.rows, rows.start + np.flatnonzero(seen.any(axis=1)), multiple),
        _span(tile.columns, columns.start + np.flatnonzero(seen.any(axis=0)), multiple),
    )


def _cells(span: Span, count: int) -> slice:
    first = min(span.start // CELL, count - 1)
    return slice(first, max(first + 1, min(count, math.ceil((span.start + span.length) / CELL))))


def _span(span: Span, cells: np.ndarray, multiple: int) -> Span:
    """The part of a span with these cells, in steps of `multiple` from its start."""
    first = max(0, int(cells[0]) * CELL - AROUND - span.start)
    last = min(span.length, (int(cells[-1]) + 1) * CELL + AROUND - span.start)
    before, end = first // multiple * multiple, math.ceil(last / multiple) * multiple
    ramps = (AROUND if before else 0, AROUND if end < span.length else 0)
    return Span(span.start + before, end - before, feather(end - before, *ramps).astype(np.float32))
