"""The authors' own tiling, exact: m1, m2 and rN as their published numbers were made (docs/method.md 2.5 and 6).

    photograph ─ resized to the process size ─ coarse network ─> depth and features of the whole
    tiles      ─ resized to the process size ─┐
    coarse depth and features ─ RoI-aligned ──┴─ refiner ─> tile depths ─> Canvas, tile after tile

Kept for comparison with the paper. `prv2 refine` tiles in its own way (tiling.py): any image size, blended at
the image's own resolution. Here m1 and m2 come back at split x process size, and only rN at the photograph's;
m1 has no blending at all; rN enlarges by nearest neighbour and draws one column per batch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.errors import UsageError
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.layers import crop_to_boxes, resize
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.tiling.plan import PAPER_INSET, PAPER_SPLIT, parse_mode

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


class Canvas:
    """The running weighted average of tile depths.

    Attributes:
        average: (H, W) metres; where nothing with a positive weight has been added yet, the m1 tile.
        weight: (H, W) sum of the blend weights so far.
    """

    def __init__(self, size: Size) -> None:
        self.average = torch.zeros(size)
        self.weight = torch.zeros(size)

    def put(self, corner: Corner, depth: Tensor, weight: Tensor) -> None:
        """Place a tile of the first grid, unblended: (h, w) depth and weight at (top, left)."""
        window = _window(corner, depth.shape)
        self.average[window] = depth
        self.weight[window] = weight

    def blend(self, corner: Corner, depth: Tensor, weight: Tensor) -> None:
        """Join a tile to the average; where its weight is zero it changes nothing."""
        window = _window(corner, depth.shape)
        old, old_weight = self.average[window], self.weight[window]
        total = old_weight + weight
        mean = (depth * weight + old_weight * old) / total.clamp_min(torch.finfo(total.dtype).tiny)
        self.average[window] = torch.where(weight > 0, mean, old)
        self.weight[window] = total

    def resized(self, size: Size) -> Canvas:
        """A copy at another size: depth by nearest neighbour, weights bilinearly, as the authors do."""
        canvas = Canvas(size)
        canvas.average = F.interpolate(self.average[None, None], size=size)[0, 0]
        canvas.weight = resize(self.weight[None, None], size, True)[0, 0].clone()
        return canvas


def refine_paper(
    model: PatchRefiner,
    image: Tensor,
    coarse: CoarseOutput,
    setup: PaperSetup,
    mode: str,
    rng: random.Random | None = None,
) -> Tensor:
    """Depth of one photograph in the authors' tiling.

    Args:
        model: a refiner with `coarse.kind: external` and `depth_space: metres`, in eval mode.
        image: (1, 3, H, W) in 0..1; H and W multiples of the split.
        coarse: depth and features of the whole photograph, made at the process size (`to_process`).
        setup: process size, split and batch.
        mode: "m1" the grid; "m2" plus the grids shifted by half a tile; "rN" plus N random tiles.
        rng: for rN. `random.Random(seed)` draws what the authors' code draws after `random.seed(seed)`.

    Returns:
        (1, 1, h, w) metres on the CPU: m1 and m2 at split x process size, rN at (H, W).
    """
    kind, count = parse_mode(mode)
    _check(image, setup)
    pieces = _Pieces(model, image, coarse, setup)
    canvas = pieces.grid()
    if kind in ("m2", "r"):
        pieces.add_shifted_grids(canvas)
    if kind == "r":
        canvas = canvas.resized((image.shape[-2], image.shape[-1]))
        pieces.add_random(canvas, count // setup.batch, rng or random.Random())
    return canvas.average[None, None]


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
        fractions = (boxes * (height / process[0]) / extent).to(whole.device)
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


class _Pieces:
    """The passes over one photograph."""

    def __init__(self, model: PatchRefiner, image: Tensor, coarse: CoarseOutput, setup: PaperSetup) -> None:
        self.model, self.image, self.coarse, self.setup = model, image, coarse, setup
        self.tile: Size = (image.shape[-2] // setup.split[0], image.shape[-1] // setup.split[1])
        self.weights = blend_weights(*setup.process)

    def grid(self) -> Canvas:
        (rows, columns), (height, width) = self.setup.split, self.setup.process
        canvas = Canvas((rows * height, columns * width))
        for corner, depth in self._refined_grid((False, False)):
            canvas.put(corner, depth, self.weights)
        return canvas

    def add_shifted_grids(self, canvas: Canvas) -> None:
        for halves in ((False, True), (True, False), (True, True)):
            for corner, depth in self._refined_grid(halves):
                canvas.blend(corner, depth, self.weights)

    def add_random(self, canvas: Canvas, rounds: int, rng: random.Random) -> None:
        size: Size = (self.image.shape[-2], self.image.shape[-1])
        weights = blend_weights(*self.tile) + RANDOM_FLOOR
        for _ in range(rounds):
            corners = random_corners(rng, self.tile, size, self.setup.batch)
            depths = F.interpolate(self._refine(corners), size=self.tile)
            for corner, depth in zip(corners, depths, strict=True):
                canvas.blend(corner, depth[0], weights)

    def _refined_grid(self, halves: tuple[bool, bool]) -> list[tuple[Corner, Tensor]]:
        """A grid, shifted by half a tile down or right: corners on the canvas and refined tiles."""
        sources = _grid_corners(self.setup.split, self.tile, halves)
        targets = _grid_corners(self.setup.split, self.setup.process, halves)
        return list(zip(targets, self._refine(sources)[:, 0], strict=True))

    def _refine(self, corners: Sequence[Corner]) -> Tensor:
        """(B, 1, *process) metres, on the CPU, of the tiles with these corners in the photograph."""
        batch = self.setup.batch
        return torch.cat([self._refine_batch(corners[i : i + batch]) for i in range(0, len(corners), batch)])

    def _refine_batch(self, corners: Sequence[Corner]) -> Tensor:
        size: Size = (self.image.shape[-2], self.image.shape[-1])
        height, width = self.tile
        cut = [self.image[:, :, top : top + height, left : left + width] for top, left in corners]
        rgb = to_process(torch.cat(cut), self.setup.process)
        boxes = process_boxes(corners, self.tile, size, self.setup.process)
        depth, features = crop_coarse(self.coarse, boxes, self.setup.process)
        return self.model.refine_cropped(rgb, depth, features).cpu()


def _check(image: Tensor, setup: PaperSetup) -> None:
    for side, length, parts in zip(("height", "width"), image.shape[-2:], setup.split, strict=True):
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
