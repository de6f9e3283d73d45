"""The passes over one photograph: as it is, and seen in a mirror (test-time augmentation).

    view ─ tiles ───────────┐
    mirrored view ─ tiles ──┴─ mirrored back ── one blender

Nothing of full size is held twice: a mirrored photograph is the same pixels read from the other side, and the tiles
of both passes go to one accumulator, row by row of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from prv2cli.coarse_branch import CoarseDepth
from prv2cli.errors import UsageError
from prv2cli.model.normalise import LogNormalisation, PlainMetres
from prv2cli.spooled import MirroredArray, SpooledArray
from prv2cli.tiling import Tile, TilePlan, overlaps

Tta = Literal["auto", "none", "flip"]


class TileSink(Protocol):
    """Where refined tiles go: tiling.Blender, or streaming.BandBlender."""

    plan: TilePlan

    def add(self, tile: Tile, values: np.ndarray, *, mirrored: bool = False) -> None:
        """Take one tile's (rows, columns) values; `mirrored`: of the mirrored photograph."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A photograph before its tiles: `normalised` is what they refine, in the space of `scale`."""

    coarse: CoarseDepth
    scale: LogNormalisation | PlainMetres
    normalised: Tensor
    features: list[Tensor]


@dataclass(frozen=True)
class View:
    """A photograph, or its mirror image, ready for its tiles. `rgb`: (H, W, 3), an array or a SpooledArray."""

    rgb: Any
    ready: Prepared
    mirrored: bool = False


def mirror(rgb: Any) -> Any:
    """The photograph with left and right exchanged, without a copy."""
    return MirroredArray(rgb) if isinstance(rgb, SpooledArray) else rgb[:, ::-1]


def in_turn(plan: TilePlan, views: Sequence[View]) -> Iterator[tuple[View, Sequence[Tile]]]:
    """All tiles of all views, in the order in which a BandBlender takes them: row by row of tiles."""
    if len(views) == 1 or not plan.sums_to_one:
        rows = [plan.tiles]
    else:
        rows = [tuple(row) for _, row in groupby(plan.tiles, key=lambda tile: tile.rows.start)]
    return ((view, row) for row in rows for view in views)


def flips(tta: Tta, confidence: bool) -> bool:
    """Whether there is a mirrored pass: what "auto" means. Raises UsageError for another word."""
    if tta not in ("auto", "none", "flip"):
        raise UsageError(f"--tta {tta}: use flip, none or auto")
    return tta == "flip" or (tta == "auto" and confidence)


def check_comparable(plan: TilePlan, flip: bool) -> None:
    """Refuse a confidence that could be known nowhere. Raises UsageError."""
    if not flip and not overlaps(plan):
        raise UsageError(
            f"--confidence with --tta none compares tiles that overlap, and none do ({plan.description}); "
            "use --tta flip, or --overlap 0.5 with a smaller --tile"
        )
