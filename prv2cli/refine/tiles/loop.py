"""The tiles of one or of several photographs through the refiner, batch by batch, into their sinks.

    Canvas (pixels, what was prepared, sink) ─┐
    Canvas ───────────────────────────────────┴─ tiles in order ─ batches ─ network ─ sink of each tile

A batch may hold tiles of several photographs, as long as they are of one size: a device that is meant for many
tiles at a time idles over a small photograph that has only one. The mirror image of a photograph is a canvas of its
own with the same sink.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from prv2cli.coarse.network import CoarseDepth
from prv2cli.errors import DeviceError
from prv2cli.machine.devices import free_memory
from prv2cli.machine.memory import ran_out_of_memory
from prv2cli.model.depth_space import Scale
from prv2cli.refine.tiles.plan import BYTES_PER_TILE_PIXEL
from prv2cli.tiling.plan import Tile, TilePlan

logger = logging.getLogger("prv2cli")


MAX_BATCH = 16

Progress = Callable[[int, int], None]


class TileNetwork(Protocol):
    """What the tile loop asks of a network: PatchRefiner, or one that was exported from it."""

    def encode_image(self, rgb: Tensor, depth: Tensor, character: Tensor | None = None) -> list[Tensor]:
        """Guidance of whole images, once per image: see PatchRefiner."""
        ...

    def crop(
        self, features: Sequence[Tensor], boxes: Tensor, image_index: Tensor, tile: Sequence[int]
    ) -> list[Tensor]:
        """The guidance of tiles: see PatchRefiner."""
        ...

    def refine_cropped(
        self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor], steeper: float = 1.0
    ) -> Tensor:
        """(B, 1, H, W) refined depth of a batch of tiles: see PatchRefiner."""
        ...


class TileSink(Protocol):
    """Where refined tiles go: tiling.blend.Blender."""

    plan: TilePlan

    def add(self, tile: Tile, values: np.ndarray, *, mirrored: bool = False) -> None:
        """Take one tile's (rows, columns) values; `mirrored`: of the mirrored photograph."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A photograph before its tiles.

    Attributes:
        normalised: (1, 1, h, w), what the tiles refine, in the space of `scale`.
        noise: of the coarse map, where some was found (restoration/noise/).
        given: (1, 1, h, w) the coarse map in that space, without the noise, before any pass.
        edges: bool by cells of the photograph, where the pass at half size left something to do; None: everywhere.
        multiple: of pixels that the sides of what is refined there have.
    """

    coarse: CoarseDepth
    scale: Scale
    normalised: Tensor
    features: list[Tensor]
    noise: Tensor | None = None
    given: Tensor | None = None
    edges: np.ndarray | None = None
    multiple: int = 1


Cut = Callable[[Sequence[Any]], list[Tensor]]


class Canvas(Protocol):
    """A photograph on its way, in any tiling: grid.GridCanvas, or authors.AuthorsCanvas.

    Its tiles are those of `sink.plan`: in any order, or where they `sums_to_one` row by row from the top.
    """

    @property
    def sink(self) -> Any:
        """Where the tiles go; canvases with one sink are views of one photograph."""
        ...

    @property
    def tile_size(self) -> tuple[int, int]:
        """Rows and columns as the network gets them: all tiles of a plan are of one size."""
        ...

    def cutter(self, network: TileNetwork, device: torch.device) -> Cut:
        """What cuts some tiles: (B, 3, H, W) pixels in 0..1, coarse depth, then each guidance map, on the device."""
        ...

    def pieces(self, tile: Any) -> Sequence[Any]:
        """What of a tile the network is to see, tiles themselves: none of it, parts, or itself alone."""
        ...

    def size_of(self, piece: Any) -> tuple[int, int]:
        """Rows and columns of a piece as the network gets it."""
        ...

    def give(self, tile: Any, pieces: Sequence[Any], values: Sequence[np.ndarray]) -> None:
        """One tile to the sink, in the sink's scale: its pieces as they were refined, (rows, columns) each, the rest as
        it was."""
        ...


class TileLoop:
    """A refiner's network on its device, and how many tiles it takes at a time."""

    def __init__(self, network: TileNetwork, device: torch.device, dtype: torch.dtype) -> None:
        self.network, self.device, self.dtype = network, device, dtype
        self._said_out_of_memory = False

    def run(
        self, canvases: Sequence[Canvas], batch_size: int, progress: Progress, steeper: float = 1.0
    ) -> int:
        """Refine every tile of the canvases, whose tiles are of one size.

        Args:
            batch_size: tiles at a time; 0 = from the free memory. Halved where the device runs out of memory.
            steeper: see TwoSurfaceHead.

        Returns:
            The batch size that went through.

        Raises:
            DeviceError: not even one tile fits.
        """
        work = list(in_turn(canvases))
        cutters = {id(canvas): canvas.cutter(self.network, self.device) for canvas in canvases}
        batch = batch_size or self.choose_batch(canvases[0].tile_size)
        done, total = 0, len(work)
        while done < total:
            part = work[done : done + batch]
            pieces = [canvas.pieces(tile) for canvas, tile in part]
            busy = [(one[0], piece) for one, found in zip(part, pieces, strict=True) for piece in found]
            exhausted: Exception | None = None
            try:
                values = iter(self._refine(busy, cutters, steeper, batch))
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
                exhausted = error.with_traceback(None)  # whose frames hold the tensors that are in the way
            if exhausted is not None:
                batch = self._smaller_batch(batch, part[0][0].tile_size, exhausted)
                continue
            for (canvas, tile), found in zip(part, pieces, strict=True):
                canvas.give(tile, found, [next(values) for _ in found])
            done += len(part)
            progress(done, total)
        return batch

    def choose_batch(self, tile: tuple[int, int]) -> int:
        """On the CPU one tile fills the cores; on a device as many as half of the free memory holds."""
        if self.device.type == "cpu":
            return 1
        needed = tile[0] * tile[1] * BYTES_PER_TILE_PIXEL
        return int(max(1, min(MAX_BATCH, free_memory(self.device) // 2 // needed)))

    def _smaller_batch(self, batch: int, tile: tuple[int, int], error: Exception) -> int:
        if batch == 1:
            rows, columns = tile
            raise DeviceError(
                f"{self.device} has too little memory for one tile of {rows}x{columns}; "
                f"use a smaller --tile, or --device cpu"
            ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if not self._said_out_of_memory:
            self._said_out_of_memory = True
            logger.warning(
                "%s ran out of memory at %d tiles at a time; going on with fewer", self.device, batch
            )
        return batch // 2

    def _refine(
        self, busy: Sequence[tuple[Canvas, Any]], cutters: Mapping[int, Cut], steeper: float, batch: int
    ) -> list[np.ndarray]:
        """Refined values of each piece; those of one size, up to `batch` of them, in one batch."""
        alike: dict[tuple[int, int], list[int]] = {}
        for number, (canvas, piece) in enumerate(busy):
            alike.setdefault(canvas.size_of(piece), []).append(number)
        found: dict[int, np.ndarray] = {}
        for numbers in alike.values():
            for first in range(0, len(numbers), batch):
                some = numbers[first : first + batch]
                values = self._refine_batch([busy[number] for number in some], cutters, steeper)
                found |= dict(zip(some, values, strict=True))
        return [found[number] for number in range(len(busy))]

    def _refine_batch(
        self, part: Sequence[tuple[Canvas, Any]], cutters: Mapping[int, Cut], steeper: float
    ) -> np.ndarray:
        """(B, rows, columns) float32 refined values of a batch of tiles of one size; `cutters` by the canvas's id."""
        pieces = [
            cutters[id(canvas)]([tile for _, tile in tiles])
            for canvas, tiles in groupby(part, key=lambda one: one[0])
        ]
        rgb, coarse, *features = (_joined(tensors) for tensors in zip(*pieces, strict=True))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            refined = self.network.refine_cropped(rgb, coarse, features, steeper)
        return refined[:, 0].float().cpu().numpy()


def in_turn(canvases: Sequence[Canvas]) -> Iterator[tuple[Canvas, Any]]:
    """All tiles of all canvases, sink after sink: each sink's row by row of tiles, as a Blender on disk takes them."""
    for _, group in groupby(canvases, key=lambda canvas: id(canvas.sink)):
        shared = list(group)
        plan = shared[0].sink.plan
        rows = [plan.tiles]
        if plan.sums_to_one:  # a grid
            rows = [tuple(row) for _, row in groupby(plan.tiles, key=lambda tile: tile.rows.start)]
        yield from ((canvas, tile) for row in rows for canvas in shared for tile in row)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
