"""The authors' own tiling, exact: m1, m2 and rN as their published numbers were made (docs/method.md 2.5 and 6).

    photograph ─ resized to the process size ─ coarse network ─> depth and features of the whole
    tiles      ─ resized to the process size ─┐
    coarse depth and features ─ RoI-aligned ──┴─ tile loop ─ refiner ─> AuthorsBlender, tile after tile

Kept for comparison with the paper. `prv2 refine` tiles in its own way (tiling/plan.py): any image size, blended at
the image's own resolution. Here m1 and m2 come back at split x process size, and only rN at the photograph's;
m1 has no blending at all; rN enlarges by nearest neighbour and draws one column per batch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.errors import UsageError
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.layers import crop_to_boxes, resize
from prv2cli.refine.tiles.loop import Cut, Progress, TileLoop, TileNetwork
from prv2cli.tiling.plan import PAPER_INSET, PAPER_SPLIT, Span, Tile, TilePlan, parse_mode

Corner = tuple[int, int]  # top, left
Size = tuple[int, int]  # height, width
RANDOM_FLOOR = 1e-3  # added to the blend weights of random tiles


@dataclass(frozen=True)
class PaperSetup:
    """How the photograph is cut.

    Attributes:
        process: (height, width) at which the networks run; (384, 512) with ZoeDepth, (448, 448) with DAv2.
        split: rows and columns of the m1 grid; they must divide the photograph.
        batch: tiles at a time. It changes rN's result: each batch of random tiles shares one column.
    """

    process: Size
    split: tuple[int, int] = (PAPER_SPLIT, PAPER_SPLIT)
    batch: int = 4


class AuthorsTile(NamedTuple):
    """A tile: its corner in the photograph, and where and how it joins the result."""

    corner: Corner
    place: Corner  # in the result at split x process size; of a random tile, in the photograph
    joins: Literal["unblended", "blended", "random"]


@dataclass(frozen=True)
class AuthorsPlan:
    """All tiles of a photograph, in the authors' order.

    Attributes:
        photograph, tile: (height, width) in pixels of the photograph.
        sums_to_one: never: the tiles keep to the order in which they stand here.
    """

    setup: PaperSetup
    photograph: Size
    tile: Size
    tiles: tuple[AuthorsTile, ...]
    sums_to_one: bool = False


def plan_authors_tiles(photograph: Size, setup: PaperSetup, mode: str, rng: random.Random) -> AuthorsPlan:
    """The tiles of a photograph of this size: arguments as of refine_paper. Raises UsageError."""
    kind, count = parse_mode(mode)
    _check(photograph, setup)
    tile = photograph[0] // setup.split[0], photograph[1] // setup.split[1]
    tiles = _grid(setup, tile, (False, False), "unblended")
    if kind in ("m2", "r"):
        for halves in ((False, True), (True, False), (True, True)):
            tiles += _grid(setup, tile, halves, "blended")
    if kind == "r":
        for _ in range(count // setup.batch):
            corners = random_corners(rng, tile, photograph, setup.batch)
            tiles += [AuthorsTile(corner, corner, "random") for corner in corners]
    return AuthorsPlan(setup, photograph, tile, tuple(tiles))


def in_the_photograph(plan: AuthorsPlan, mode: str, multiple: int) -> TilePlan:
    """The same as a plan of ours: where each tile lies in the photograph, for who counts tiles and looks at seams.

    As with the paper's tiles there, each is as long as the next `multiple`, and counts nothing beyond its own part.
    """
    rows, columns = (np.pad(np.ones(side, np.float32), (0, -side % multiple)) for side in plan.tile)
    tiles = tuple(
        Tile(Span(top, len(rows), rows), Span(left, len(columns), columns))
        for top, left in (tile.corner for tile in plan.tiles)
    )
    text = f"paper {mode}: {len(tiles)} tiles of {plan.tile[0]}x{plan.tile[1]}"
    return TilePlan(*plan.photograph, tiles, plan.sums_to_one, text)


def _grid(
    setup: PaperSetup, tile: Size, halves: tuple[bool, bool], joins: Literal["unblended", "blended"]
) -> list[AuthorsTile]:
    """A grid, shifted by half a tile down or right."""
    corners = _grid_corners(setup.split, tile, halves)
    places = _grid_corners(setup.split, setup.process, halves)
    return [AuthorsTile(corner, place, joins) for corner, place in zip(corners, places, strict=True)]


class AuthorsBlender:
    """The running weighted average of tile depths.

    Attributes:
        average: (H, W); where nothing with a positive weight has been added yet, the m1 tile.
        weight: (H, W) sum of the blend weights so far.
    """

    def __init__(self, plan: AuthorsPlan) -> None:
        self.plan = plan
        (rows, columns), (height, width) = plan.setup.split, plan.setup.process
        self.average = torch.zeros(rows * height, columns * width)
        self.weight = torch.zeros_like(self.average)
        self._of_a_tile = blend_weights(height, width)
        self._of_a_random_tile: Tensor | None = None

    def add(self, tile: AuthorsTile, values: np.ndarray) -> None:
        """Join a tile's (rows, columns) values, at the process size."""
        depth = torch.from_numpy(values)
        if tile.joins == "random":
            if self._of_a_random_tile is None:  # the first: from here on at the photograph's own size
                self._resize(self.plan.photograph)
                self._of_a_random_tile = blend_weights(*self.plan.tile) + RANDOM_FLOOR
            depth = F.interpolate(depth[None, None], size=self.plan.tile)[0, 0]
            self._blend(tile.place, depth, self._of_a_random_tile)
        elif tile.joins == "blended":
            self._blend(tile.place, depth, self._of_a_tile)
        else:
            window = _window(tile.place, depth.shape)
            self.average[window], self.weight[window] = depth, self._of_a_tile

    def _blend(self, corner: Corner, depth: Tensor, weight: Tensor) -> None:
        """Where its weight is zero a tile changes nothing."""
        window = _window(corner, depth.shape)
        old, old_weight = self.average[window], self.weight[window]
        total = old_weight + weight
        mean = (depth * weight + old_weight * old) / total.clamp_min(torch.finfo(total.dtype).tiny)
        self.average[window] = torch.where(weight > 0, mean, old)
        self.weight[window] = total

    def _resize(self, size: Size) -> None:
        """To another size: depth by nearest neighbour, weights bilinearly, as the authors do."""
        self.average = F.interpolate(self.average[None, None], size=size)[0, 0]
        self.weight = resize(self.weight[None, None], size, True)[0, 0].clone()


@dataclass(frozen=True, eq=False)
class AuthorsCanvas:
    """A photograph on its way through the tile loop (loop.Canvas).

    image: (1, 3, H, W) in 0..1. coarse: depth and features of the whole, on the device.
    """

    image: Tensor
    coarse: CoarseOutput
    sink: AuthorsBlender

    @property
    def tile_size(self) -> Size:
        """See loop.Canvas."""
        return self.sink.plan.setup.process

    def cutter(self, network: TileNetwork, device: torch.device) -> Cut:
        """See loop.Canvas."""
        plan, image = self.sink.plan, self.image.to(device)
        process = plan.setup.process

        def cut(tiles: Sequence[AuthorsTile]) -> list[Tensor]:
            windows = [_window(tile.corner, plan.tile) for tile in tiles]
            rgb = to_process(torch.cat([image[:, :, rows, columns] for rows, columns in windows]), process)
            boxes = process_boxes([tile.corner for tile in tiles], plan.tile, plan.photograph, process)
            coarse = crop_coarse(self.coarse, boxes, process)
            return [rgb, coarse.depth, *coarse.features]

        return cut

    def pieces(self, tile: AuthorsTile) -> list[AuthorsTile]:
        """See loop.Canvas."""
        return [tile]

    def size_of(self, piece: AuthorsTile) -> Size:
        """See loop.Canvas."""
        return self.tile_size

    def give(self, tile: AuthorsTile, pieces: Sequence[AuthorsTile], values: Sequence[np.ndarray]) -> None:
        """See loop.Canvas."""
        self.sink.add(tile, values[0])


def refine_paper(
    network: TileNetwork,
    image: Tensor,
    coarse: CoarseOutput,
    setup: PaperSetup,
    mode: str,
    rng: random.Random | None = None,
    progress: Progress = lambda done, total: None,
) -> Tensor:
    """Depth of one photograph in the authors' tiling, in float32 as their figures were made.

    Args:
        network: a refiner with `coarse.kind: external`, in eval mode.
        image: (1, 3, H, W) in 0..1; H and W multiples of the split.
        coarse: depth (in the refiner's space) and features of the whole photograph, made at the process size
            (`to_process`).
        setup: process size, split and batch.
        mode: "m1" the grid; "m2" plus the grids shifted by half a tile; "rN" plus N random tiles.
        rng: for rN. `random.Random(seed)` draws what the authors' code draws after `random.seed(seed)`.

    Returns:
        (1, 1, h, w) on the CPU, in the space of the coarse depth: m1 and m2 at split x process size, rN at (H, W).

    Raises:
        UsageError: a photograph that the split does not divide.
    """
    size = (image.shape[-2], image.shape[-1])
    blender = AuthorsBlender(plan_authors_tiles(size, setup, mode, rng or random.Random()))
    canvas = AuthorsCanvas(image, coarse, blender)
    TileLoop(network, image.device, torch.float32).run([canvas], setup.batch, progress)
    return blender.average[None, None]


def to_process(image: Tensor, process: Size) -> Tensor:
    """Resize (B, 3, h, w) to the process size as the authors do: bilinear, align_corners, not antialiased."""
    return resize(image, process, True)


def process_boxes(corners: Sequence[Corner], tile: Size, image: Size, process: Size) -> Tensor:
    """(B, 4) x0, y0, x1, y1 of tiles (top, left, in pixels of the image) in pixels of the process size."""
    pixels = torch.tensor([[left, top, left + tile[1], top + tile[0]] for top, left in corners])
    y, x = process[0] / image[0], process[1] / image[1]
    return pixels * torch.tensor([x, y, x, y], dtype=torch.float64)


def crop_coarse(coarse: CoarseOutput, boxes: Tensor, process: Size) -> CoarseOutput:
    """Coarse depth and features of tiles, each map sampled back to its own whole size.

    Args:
        coarse: of one photograph.
        boxes: (B, 4) x0, y0, x1, y1 in pixels of the process size.

    Returns:
        CoarseOutput of B tiles. Positions are scaled by map height / process height on BOTH axes (docs/method.md 6).
    """
    index = torch.zeros(len(boxes), dtype=torch.long, device=coarse.depth.device)

    def crop(whole: Tensor) -> Tensor:
        height, width = whole.shape[-2:]
        extent = torch.tensor([width, height, width, height], dtype=boxes.dtype)
        fractions = boxes * (height / process[0]) / extent
        if whole.device.type == "mps":  # which knows no float64
            fractions = fractions.float()
        fractions = fractions.to(whole.device)
        return crop_to_boxes(whole, fractions, index, (height, width))

    return CoarseOutput(crop(coarse.depth), [crop(feature) for feature in coarse.features])


def blend_weights(height: int, width: int) -> Tensor:
    """(height, width) in 0..1: a box inset by 15 %, blurred by a Gaussian of sigma height / 16, both ways."""
    box = np.zeros((height, width))
    rows, columns = int(PAPER_INSET * height), int(PAPER_INSET * width)
    box[rows : height - rows, columns : width - columns] = 1
    kernel = _gaussian(height // 16)
    blurred = _blur_rows(_blur_rows(box, kernel).T, kernel).T
    low, high = blurred.min(), blurred.max()
    return torch.from_numpy(((blurred - low) / (high - low)).astype(np.float32))


def random_corners(rng: random.Random, tile: Size, image: Size, count: int) -> list[Corner]:
    """`count` tops, then ONE left for all of them; the last possible row and column are never drawn."""
    tops = [rng.randint(0, image[0] - tile[0] - 1) for _ in range(count)]
    left = rng.randint(0, image[1] - tile[1] - 1)
    return [(top, left) for top in tops]


def _check(photograph: Size, setup: PaperSetup) -> None:
    for side, length, parts in zip(("height", "width"), photograph, setup.split, strict=True):
        if length % parts:
            raise UsageError(
                f"the exact tiling of the paper needs a {side} divisible by {parts}, not {length}"
            )


def _grid_corners(split: tuple[int, int], tile: Size, halves: tuple[bool, bool]) -> list[Corner]:
    """Corners of `split` tiles, row by row; shifted by half a tile it has one row or column fewer."""
    axes = [
        [size // 2 + size * i for i in range(count - 1)] if half else [size * i for i in range(count)]
        for count, size, half in zip(split, tile, halves, strict=True)
    ]
    return [(top, left) for top in axes[0] for left in axes[1]]


def _window(corner: Corner, size: Sequence[int]) -> tuple[slice, slice]:
    return slice(corner[0], corner[0] + size[0]), slice(corner[1], corner[1] + size[1])


def _gaussian(sigma: int) -> np.ndarray:
    """Normalised samples at -2 sigma .. 2 sigma."""
    radius = math.ceil(2 * sigma)
    kernel = np.exp(-((np.arange(2 * radius + 1) - radius) ** 2) / (2 * max(sigma, 1) ** 2))
    return kernel / kernel.sum()


def _blur_rows(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve along the last axis, mirrored at the border (without repeating it)."""
    radius = len(kernel) // 2
    padded = np.pad(values, ((0, 0), (radius, radius)), mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=1) @ kernel
