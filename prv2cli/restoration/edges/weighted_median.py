"""A weighted median, which lays the edges of a map along those of the photograph.

Where depth has an edge, every pixel takes the median of the depths around it, in which pixels of its own colour count
more (Ma, He, Wei, Sun and Wu, "Constant Time Weighted Median Filtering for Stereo Matching and Beyond", ICCV 2013):
its surface is the one on which most pixels like it lie. A median is one of the values that are there, so that no depth
is made up; a part as thin as a hair stays where its colour tells it from what is behind. Two passes on a wide, loose
grid of neighbours see as far as one on all of them, at a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from prv2cli.files.disk_array import DiskArray
from prv2cli.photo.levels import to_8_bits
from prv2cli.resampling.extremes import largest_around
from prv2cli.restoration.edges.by_bands import by_bands

EDGE = 0.005  # of log-depth from one pixel to the next: where there is such a step within reach a pixel moves, from
# twice as much on all the way
COLOUR = 15.0  # 8-bit levels: standard deviation of the Gaussian of the colours' distance
SIDE = 2  # neighbours each way, so 5 x 5
SPACINGS = (2, 2)  # px from one neighbour to the next, by pass
WIDEST = 4  # px
BLUR_PER_SPACING = 9.0  # px of blur for each px that the first pass looks farther
_WEIGHT_BITS = 8
_CHUNK = 1 << 13  # pixels at a time: their neighbours stay in a processor's cache
_SQUARES = np.arange(round(13 * COLOUR**2))
# By the square of the colours' distance: 0..255; the last is that of all larger ones, 0.
_WEIGHTS = np.round(((1 << _WEIGHT_BITS) - 1) * np.exp(-_SQUARES / (2 * COLOUR**2))).astype(np.int64)


def spacings_for(blur: float) -> tuple[int, int]:
    """Those behind a map that was blurred, by so many pixels (standard deviation): edges may be off by more there."""
    return min(WIDEST, SPACINGS[0] + round(blur / BLUR_PER_SPACING)), SPACINGS[1]


def weighted_median(
    values: np.ndarray | DiskArray,
    pixels: np.ndarray | DiskArray,
    spread: float,
    spacings: Sequence[int] = SPACINGS,
) -> None:
    """Lay the edges of a map along those of its photograph, in place.

    Args:
        values: (H, W) float32 normalised depth of any kind. pixels: (H, W, 3) uint8 or uint16, the photograph.
        spread: log-depth of one unit of `values`. spacings: see SPACINGS.
    """
    widest = SIDE * max(spacings)

    def change(block: np.ndarray, first: int) -> np.ndarray:
        steepest = _steps(block) * (spread / EDGE)
        if steepest.max() <= 1:
            return block
        steepest = largest_around(torch.from_numpy(steepest), widest).numpy()
        edges = np.nonzero(steepest > 1)
        share = np.minimum(steepest[edges] - 1, 1)
        # An edge that one pass moves is still within reach of where it was.
        colours = np.pad(_packed(to_8_bits(pixels[first : first + len(block)])), widest, mode="edge").ravel()
        width = block.shape[1] + 2 * widest
        centres = (edges[0] + widest) * width + edges[1] + widest
        changed = block.copy()
        for spacing in spacings:
            order = _in_order(np.pad(changed, widest, mode="edge")).ravel()
            steps = spacing * np.arange(-SIDE, SIDE + 1)
            find = partial(_medians, order, colours, around=(steps[:, None] * width + steps).ravel())
            medians = np.concatenate(
                list(pool.map(find, np.split(centres, range(_CHUNK, len(centres), _CHUNK))))
            )
            changed[edges] = share * medians + (1 - share) * changed[edges]
        return changed

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        by_bands(values, SIDE * sum(spacings) + 1, change)


def _steps(x: np.ndarray) -> np.ndarray:
    """(H, W): how far each value is from those above, below and beside it."""
    steps = np.zeros_like(x)
    across, down = np.abs(x[:, 1:] - x[:, :-1]), np.abs(x[1:] - x[:-1])
    for part, apart in (
        (steps[:, 1:], across),
        (steps[:, :-1], across),
        (steps[1:], down),
        (steps[:-1], down),
    ):
        np.maximum(part, apart, out=part)
    return steps


def _medians(order: np.ndarray, colours: np.ndarray, centres: np.ndarray, around: np.ndarray) -> np.ndarray:
    """(N,) float32: the median `around` (K) each of `centres` (N), weighted by how near the colours are to its own."""
    where = centres[:, None] + around
    weights = _WEIGHTS.take(_distances(colours.take(where), colours[centres, None]), mode="clip")
    # Value and weight in one number: sorted by value, and numpy sorts integers in a processor's wide registers.
    keys = (order.take(where).astype(np.int64) << _WEIGHT_BITS) | weights
    keys.sort(axis=1)
    total = np.cumsum(keys & ((1 << _WEIGHT_BITS) - 1), axis=1, dtype=np.int32)
    middle = (2 * total < total[:, -1:]).sum(axis=1)
    chosen = np.take_along_axis(keys, middle[:, None], axis=1)[:, 0]
    return _from_order((chosen >> _WEIGHT_BITS).astype(np.int32))


def _packed(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) int32: one number is looked up three times as fast as three."""
    wide = np.zeros((*rgb.shape[:2], 4), np.uint8)
    wide[..., :3] = rgb
    return wide.view(np.int32)[..., 0]


def _distances(colours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squares of the distances between packed colours."""
    total = np.zeros(np.broadcast_shapes(colours.shape, others.shape), np.int32)
    for shift in (16, 8, 0):
        apart = ((colours >> shift) & 255) - ((others >> shift) & 255)
        total += apart * apart
    return total


def _in_order(values: np.ndarray) -> np.ndarray:
    """float32 -> int32 of the same order."""
    bits = values.view(np.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _from_order(order: np.ndarray) -> np.ndarray:
    """What _in_order undoes."""
    return (order ^ ((order >> 31) & 0x7FFFFFFF)).view(np.float32)
