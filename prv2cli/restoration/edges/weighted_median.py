"""A weighted median, which lays the edges of a map along those of the photograph.

Where depth has an edge, every pixel takes the median of the depths around it, in which pixels of its own colour count
more (Ma, He, Wei, Sun and Wu, "Constant Time Weighted Median Filtering for Stereo Matching and Beyond", ICCV 2013):
its surface is the one on which most pixels like it lie. A median is one of the values that are there, so that no depth
is made up; a part as thin as a hair stays where its colour tells it from what is behind. Two passes on a wide, loose
grid of neighbours see as far as one on all of them, at a fraction of the cost; but pixels side by side look at
different halves of such a grid, which serrates an outline by a pixel, and a last pass on all neighbours mends that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from prv2cli.files.disk_array import DiskArray
from prv2cli.photo.levels import to_8_bits
from prv2cli.resampling.extremes import largest_around
from prv2cli.restoration.edges.by_bands import by_bands

EDGE = 0.005  # of log-depth from one pixel to the next: where there is such a step within reach a pixel moves, from
# twice as much on all the way
COLOUR = 15.0  # 8-bit levels: standard deviation of the Gaussian of the colours' distance
COLOUR_BESIDE = 30.0  # the same of pixels side by side, which are of one surface unless they clearly differ
SIDE = 2  # neighbours each way, so 5 x 5
SPACINGS = (2, 2, 1)  # px from one neighbour to the next, by pass
WIDEST = 4  # px
BLUR_PER_SPACING = 9.0  # px of blur for each px that the first pass looks farther
_WEIGHT_BITS = 8
_MOST_THREADS = 8  # each has a band of its own in memory
_CHUNK = 1 << 13  # pixels at a time: their neighbours stay in a processor's cache


def _weights(colour: float) -> np.ndarray:
    """uint8, by the square of the colours' distance; the last is that of all larger ones, 0."""
    squares = np.arange(round(13 * colour**2))
    return np.round(((1 << _WEIGHT_BITS) - 1) * np.exp(-squares / (2 * colour**2))).astype(np.uint8)


_WEIGHTS, _WEIGHTS_BESIDE = _weights(COLOUR), _weights(COLOUR_BESIDE)


def spacings_for(blur: float) -> tuple[int, ...]:
    """Those behind a map that was blurred, by so many pixels (standard deviation): edges may be off by more there."""
    return min(WIDEST, SPACINGS[0] + round(blur / BLUR_PER_SPACING)), *SPACINGS[1:]


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
        changed, colours = block, None
        for spacing in spacings:
            near, share = _near_edges(changed, SIDE * spacing, spread / EDGE)
            if len(near) == 0:
                break
            if colours is None:
                changed = block.copy()
                colours = _packed(to_8_bits(pixels[first : first + len(block)]), widest)
            order = np.pad(_in_order(changed), widest, mode="edge")
            rows, columns = np.divmod(near, block.shape[1])
            centres = (rows + widest) * order.shape[1] + columns + widest
            weights = _WEIGHTS if spacing > 1 else _WEIGHTS_BESIDE
            medians = _medians(order.ravel(), colours, centres, _around(spacing, order.shape[1]), weights)
            flat = changed.reshape(-1)
            flat[near] = share * medians + (1 - share) * flat[near]
        return changed

    threads = min(torch.get_num_threads(), _MOST_THREADS)
    by_bands(values, SIDE * sum(spacings) + len(spacings), change, threads)


def _near_edges(block: np.ndarray, reach: int, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels, row after row, have an edge within `reach`, and by how much of the way each moves, 0..1."""
    moves = np.zeros(block.shape, np.uint8)
    for axis in (0, 1):
        between = _moves(np.diff(block, axis=axis), unit).swapaxes(0, axis)
        lines = moves.swapaxes(0, axis)
        for beside in (lines[1:], lines[:-1]):
            np.maximum(beside, between, out=beside)
    if moves.any():
        moves = largest_around(torch.from_numpy(moves), reach).numpy()
    near = np.flatnonzero(moves > 0)
    return near, moves.reshape(-1)[near] / np.float32(255)


def _moves(steps: np.ndarray, unit: float) -> np.ndarray:
    """By how much of the way, 0..255, pixels beside steps move: not at all up to 1 / unit, all of it from 2 / unit."""
    np.abs(steps, out=steps)
    steps *= np.float32(255 * unit)
    steps -= np.float32(255)
    return np.clip(steps, 0, 255, out=steps).astype(np.uint8)


def _around(spacing: int, width: int) -> np.ndarray:
    """(K,): where a pixel's neighbours and itself are from it, in a map of so many columns, row after row."""
    steps = spacing * np.arange(-SIDE, SIDE + 1)
    return (steps[:, None] * width + steps).ravel()


def _medians(
    order: np.ndarray, colours: np.ndarray, centres: np.ndarray, around: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """(N,) float32: the median `around` (K) each of `centres` (N), weighted by how near the colours are to its own."""
    chosen = np.empty(len(centres), np.int32)
    for start in range(0, len(centres), _CHUNK):
        some = centres[start : start + _CHUNK]
        where = some[:, None] + around
        weight = weights.take(_distances(colours.take(where), colours[some, None]), mode="clip")
        # Value and weight in one number: sorted by value, and numpy sorts integers in a processor's wide registers.
        keys = (order.take(where).astype(np.int64) << _WEIGHT_BITS) | weight
        keys.sort(axis=1)
        total = np.cumsum(keys & ((1 << _WEIGHT_BITS) - 1), axis=1, dtype=np.int32)
        middle = (2 * total < total[:, -1:]).sum(axis=1)
        chosen[start : start + _CHUNK] = keys[np.arange(len(some)), middle] >> _WEIGHT_BITS
    return _from_order(chosen)


def _packed(rgb: np.ndarray, border: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (n,) int32 of red, green, blue and anything: one number is looked up as fast as one byte.

    Row after row, with pixels of the edge repeated `border` times all around.
    """
    around = ((border, border + 1), (border, border), (0, 0))  # the last number ends behind the last pixel
    padded = np.pad(rgb, around, mode="edge")
    count = (padded.shape[0] - 1) * padded.shape[1]
    return np.ndarray((count,), "<i4", padded, strides=(3,)).astype(np.int32)


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
    order = bits >> 31
    order &= 0x7FFFFFFF
    order ^= bits
    return order


def _from_order(order: np.ndarray) -> np.ndarray:
    """What _in_order undoes."""
    return (order ^ ((order >> 31) & 0x7FFFFFFF)).view(np.float32)
