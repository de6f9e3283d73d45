"""The passes over one photograph: as it is, and seen in a mirror (test-time augmentation).

    View ─ Canvas ──────────┐
    mirrored View ─ Canvas ─┴─ TileLoop ─ mirrored back ─ one sink

Nothing of full size is held twice: a mirrored photograph is the same pixels read from the other side, and the tiles
of both passes go to one accumulator, row by row of tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prv2cli.files.disk_array import DiskArray, MirroredArray
from prv2cli.refine.tile_loop import Canvas, Prepared, TileSink


@dataclass(frozen=True)
class View:
    """A photograph, or its mirror image, ready for its tiles. `rgb`: (H, W, 3), an array or a DiskArray."""

    rgb: Any
    ready: Prepared
    mirrored: bool = False


def mirror(rgb: Any) -> Any:
    """The photograph with left and right exchanged, without a copy."""
    return MirroredArray(rgb) if isinstance(rgb, DiskArray) else rgb[:, ::-1]


def canvases(views: Sequence[View], sink: TileSink) -> list[Canvas]:
    """The views of one photograph on their way to one sink, which holds values in the scale of the first."""
    first = views[0].ready.scale
    return [
        Canvas(view.rgb, view.ready, sink, view.mirrored, None if view.ready.scale is first else first)
        for view in views
    ]
