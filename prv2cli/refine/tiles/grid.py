"""Photographs in our own tiling: one overlapped grid, whose tiles are cut here and given to their blender.

A photograph and its mirror image are views; each view is a canvas of the tile loop, with the blender of its photograph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prv2cli.files.disk_array import DiskArray, MirroredArray
from prv2cli.model.depth_space import Scale
from prv2cli.model.layers import crop_to_boxes
from prv2cli.refine.tiles.loop import Cut, Prepared, TileLoop, TileNetwork, TileSink
from prv2cli.refine.tiles.settled import pieces_of
from prv2cli.tiling.plan import Tile


@dataclass(frozen=True, eq=False)
class GridCanvas:
    """A canvas in our tiling: the (H, W, 3) pixels to cut, what was prepared of them, where the tiles go.

    `mirrored`: it is the mirror image of the photograph whose tiles go to the same sink. `scale`: of the values in
    the sink, where that is not the canvas's own.
    """

    rgb: Any
    ready: Prepared
    sink: TileSink
    mirrored: bool = False
    scale: Scale | None = None

    @property
    def tile_size(self) -> tuple[int, int]:
        """See Canvas."""
        first = self.sink.plan.tiles[0]
        return first.rows.length, first.columns.length

    def cutter(self, network: TileNetwork, device: torch.device) -> Cut:
        """See Canvas."""
        normalised, plan = self.ready.normalised.to(device), self.sink.plan

        def cut(tiles: Sequence[Tile]) -> list[Tensor]:
            batch = to_pixels([_cut_pixels(self.rgb, tile) for tile in tiles], device)
            boxes = torch.tensor([tile.box(plan.height, plan.width) for tile in tiles], device=device)
            index = torch.zeros(len(tiles), dtype=torch.long, device=device)
            size = batch.shape[-2:]
            coarse = crop_to_boxes(normalised, boxes, index, size)
            return [batch, coarse, *network.crop(self.ready.features, boxes, index, size)]

        return cut

    def pieces(self, tile: Tile) -> list[Tile]:
        """See Canvas."""
        edges = self.ready.edges
        return [tile] if edges is None else pieces_of(tile, edges, self.ready.multiple)

    def size_of(self, piece: Tile) -> tuple[int, int]:
        """See Canvas."""
        return piece.rows.length, piece.columns.length

    def give(self, tile: Tile, pieces: Sequence[Tile], values: Sequence[np.ndarray]) -> None:
        """See Canvas."""
        whole = values[0] if pieces and pieces[0] is tile else self._with_pieces(tile, pieces, values)
        scale: Any = self.scale
        if scale is not None:
            whole = scale.convert(whole, self.ready.scale)
        self.sink.add(tile, whole, mirrored=self.mirrored)

    def _with_pieces(self, tile: Tile, pieces: Sequence[Tile], values: Sequence[np.ndarray]) -> np.ndarray:
        """(rows, columns) of a tile: what is refined already, and pieces of it that are refined once more."""
        plan, size = self.sink.plan, (tile.rows.length, tile.columns.length)
        box, index = torch.tensor([tile.box(plan.height, plan.width)]), torch.zeros(1, dtype=torch.long)
        rest = crop_to_boxes(self.ready.normalised.cpu(), box, index, size)[0, 0].numpy()
        for piece, refined in zip(pieces, values, strict=True):
            rows, columns = piece.rows, piece.columns
            top, left = rows.start - tile.rows.start, columns.start - tile.columns.start
            place = rest[top : top + rows.length, left : left + columns.length]
            place += (refined - place) * rows.window[:, None] * columns.window
        return rest


def to_pixels(parts: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """(h, w, 3) uint8 or uint16 parts of one size -> (B, 3, h, w) float32 in 0..1, channels last as they were cut."""
    pixels = torch.from_numpy(np.stack(parts))
    if device.type == "mps" and pixels.dtype == torch.uint16:  # which Metal does not know
        pixels = pixels.float()
    pixels = pixels.to(device)
    return pixels.permute(0, 3, 1, 2).float().div_(255.0 if parts[0].dtype == np.uint8 else 65535.0)


def _cut_pixels(rgb: Any, tile: Tile) -> np.ndarray:
    """The tile's (rows, columns, 3) pixels; beyond the image the border is repeated."""
    rows, columns = tile.rows, tile.columns
    part = rgb[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
    below, right = rows.length - part.shape[0], columns.length - part.shape[1]
    return np.pad(part, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else part


@dataclass(frozen=True)
class View:
    """A photograph, or its mirror image, ready for its tiles, and the loop that they go through.

    `rgb`: (H, W, 3), in memory or on disk.
    """

    rgb: Any
    ready: Prepared
    loop: TileLoop
    mirrored: bool = False


def mirror(rgb: Any) -> Any:
    """The photograph with left and right exchanged, without a copy: the same pixels, read from the other side."""
    return MirroredArray(rgb) if isinstance(rgb, DiskArray) else rgb[:, ::-1]


def canvases_of(views: Sequence[View], sink: TileSink) -> list[GridCanvas]:
    """The views of one photograph on their way to one sink, which holds values in the scale of the first."""
    first = views[0].ready.scale
    return [
        GridCanvas(view.rgb, view.ready, sink, view.mirrored, None if view.ready.scale is first else first)
        for view in views
    ]
