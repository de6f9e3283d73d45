"""Tiles put together: a weighted sum at the image's own resolution, in memory or on disk. numpy only.

    tiles, row by row from the top ─ Blender ─ rows that no tile will touch any more ─> the result on disk
                                        └───── in memory the result itself holds the sums

Sums are taken in the same order either way, so both give the same numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from prv2cli.files.disk_array import DiskArray
from prv2cli.tiling.disagreement import Disagreement
from prv2cli.tiling.plan import Tile, TilePlan

MapArray = np.ndarray | DiskArray


class Placed(NamedTuple):
    """The part of a tile that lies in the image: rows and columns there, and (h, w) values and weights."""

    window: tuple[slice, slice]
    values: np.ndarray
    weight: np.ndarray


def place(plan: TilePlan, tile: Tile, values: np.ndarray, *, mirrored: bool = False) -> Placed:
    """Where a tile's (rows, columns) values belong. `mirrored`: it is a tile of the mirrored image."""
    rows, columns = tile.rows, tile.columns
    height = min(rows.length, plan.height - rows.start)
    width = min(columns.length, plan.width - columns.start)
    left, values, across = columns.start, values[:height, :width], columns.window[:width]
    if mirrored:
        left, values, across = plan.width - left - width, values[:, ::-1], across[::-1]
    window = (slice(rows.start, rows.start + height), slice(left, left + width))
    return Placed(window, values, rows.window[:height, None] * across[None])


class Blended(NamedTuple):
    """(height, width) float32 each: the blended map, and half the range of what was blended at each pixel."""

    values: MapArray
    disagreement: MapArray | None


class Blender:
    """Weighted sum of the tiles of a plan. Of a map on disk only the rows that a tile still to come may touch are held.

    In memory tiles may come in any order; on disk they come row by row from the top.
    """

    def __init__(
        self, plan: TilePlan, folder: Path | None = None, *, passes: int = 1, compare: bool = False
    ) -> None:
        """`passes`: how many times the plan's tiles come. `compare`: keep what the disagreement needs.

        folder: on whose disk the result lies; None: in memory.

        Raises:
            DiskFullError, OutputError: no room there.
        """
        assert folder is None or plan.sums_to_one, "an irregular tiling needs its weights of the whole image"
        self.plan = plan
        self._share = np.float32(1 / passes)
        self._top = 0
        rows = plan.height if folder is None else 0
        self._sum = np.zeros((rows, plan.width), np.float32)
        self._weight = None if plan.sums_to_one else np.zeros_like(self._sum)
        self._compared = Disagreement(rows, plan.width) if compare else None
        self._on_disk: list[DiskArray] = []
        if folder is not None:
            for _ in range(2 if compare else 1):
                self._on_disk.append(DiskArray((plan.height, plan.width), np.float32, folder))

    def add(self, tile: Tile, values: np.ndarray, *, mirrored: bool = False) -> None:
        """Add one tile's (rows, columns) values; the part beyond the image is cut off."""
        (rows, columns), values, weight = place(self.plan, tile, values, mirrored=mirrored)
        weight *= self._share
        if self._on_disk:
            self._flush(rows.start)
            self._extend(rows.stop)
        window = (slice(rows.start - self._top, rows.stop - self._top), columns)
        self._sum[window] += values * weight
        if self._weight is not None:
            self._weight[window] += weight
        if self._compared is not None:
            self._compared.add(window, values, weight)

    def finish(self) -> Blended:
        """Hand the result over: call once, after the last tile."""
        if self._on_disk:
            self._flush(self.plan.height)
            return Blended(self._on_disk[0], self._on_disk[1] if self._compared is not None else None)
        if self._weight is not None:
            self._sum /= self._weight
        return Blended(self._sum, None if self._compared is None else self._compared.take(self.plan.height))

    def close(self) -> None:
        """Give the disk space back, where a run ends before its end."""
        for array in self._on_disk:
            array.close()

    def _flush(self, top: int) -> None:
        """Write the rows above `top`."""
        assert top >= self._top, "tiles come row by row from the top"
        done, rows = top - self._top, slice(self._top, top)
        if done:
            self._on_disk[0][rows] = self._sum[:done]
            if self._compared is not None:
                self._on_disk[1][rows] = self._compared.take(done)
            self._sum, self._top = self._sum[done:].copy(), top

    def _extend(self, bottom: int) -> None:
        missing = bottom - self._top - len(self._sum)
        if missing > 0:
            more = np.zeros((missing, self.plan.width), np.float32)
            self._sum = np.concatenate([self._sum, more])
            if self._compared is not None:
                self._compared.extend(missing)


def seam_excess(values: MapArray, plan: TilePlan, floor: float = 0.0, reach: int = 12) -> float:
    """How much steeper a map is across tile borders than beside them, as a fraction (0 = no seam to be seen).

    The mean step |v[x] - v[x-1]| at the first and last pixel of every tile is compared with the mean step at the
    lines up to `reach` pixels on both sides. Steps are cut at the 90th percentile: a depth edge that happens to lie
    under a border is no seam.

    Args:
        values: (H, W), e.g. log-depth.
        floor: a step that is too small to matter, in the unit of `values`: on a flat wall only rounding is left.
    """
    at_border, beside = [], []
    for axis, extent in ((0, plan.height), (1, plan.width)):
        spans = [tile.rows if axis == 0 else tile.columns for tile in plan.tiles]
        # The paper's tiles end where their windows do: what lies beyond is there for the network alone.
        ends = (s.start + (s.length if plan.sums_to_one else np.count_nonzero(s.window)) for s in spans)
        borders = {int(edge) for edge in (*(s.start for s in spans), *ends) if 0 < edge < extent}
        for edge in sorted(borders):
            low, high = max(0, edge - reach - 1), min(extent, edge + reach)
            steps = np.abs(np.diff(_lines(values, low, high, axis), axis=axis))
            steps = np.moveaxis(steps, axis, 0)
            line = edge - low - 1
            if len(steps) < 2:  # nothing lies beside it
                continue
            steps = np.minimum(steps, np.quantile(steps, 0.9))
            at_border.append(float(steps[line].mean()))
            beside.append(float(np.delete(steps, line, axis=0).mean()))
    if not beside or sum(beside) == 0:
        return 0.0
    floors = floor * len(beside)
    return (sum(at_border) + floors) / (sum(beside) + floors) - 1


def _lines(values: MapArray, low: int, high: int, axis: int) -> np.ndarray:
    """Rows (axis 0) or columns (axis 1) `low` to `high`."""
    return values[low:high] if axis == 0 else values[:, low:high]
