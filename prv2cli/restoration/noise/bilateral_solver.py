"""The smoothest map that a photograph allows and that stays near a noisy one: the fast bilateral solver (Barron and
Poole, ECCV 2016).

Pixels with one place and one colour, both in steps, share a vertex of a five-dimensional grid; so few vertices stand
for many pixels, and neighbours in the grid are neighbours in the photograph that look alike. On them

    strength * (differences between neighbours, squared) + trust * (differences to the noisy map, squared)

is least for the solution of a sparse linear system; conjugate gradients find it.

Ours: a map of few pixels tells means over many pixels of the photograph. Enlarged, it would ask for ramps where the
photograph has an edge; so what is compared with it is mostly the solution's own means (MEANS).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prv2cli.restoration.noise.footprints import Footprints, Shares

PLACE, LUMA, CHROMA = 8.0, 8.0, 8.0  # steps of the grid: pixels, 8-bit levels
SHIFTS = (
    0.0,
    1 / 3,
    2 / 3,
)  # of the grid, in steps: a vertex has one value, and the mean of several has no terraces
BALANCING = 10  # rounds that make the blur keep every vertex's mass
ITERATIONS, TOLERANCE = 40, 3e-3
MEANS = 0.8  # of what a small map says are its pixels' means; the rest, enlarged, holds single vertices
UNEVEN = 1.5  # times the mean noise, or so many times less: what a level may have; with more, far surfaces dissolve
_LUMA = (0.299, 0.587, 0.114)
_CHROMA = ((-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


class _Grid(NamedTuple):
    """place: (N,) the vertex of each pixel; neighbours: (10, V) vertices, V where there is none; mass: (V,) pixels."""

    place: np.ndarray
    neighbours: np.ndarray
    mass: np.ndarray

    def blur(self, values: np.ndarray) -> np.ndarray:
        """Each vertex twice for every dimension, and its neighbours."""
        padded, found = np.append(values, 0.0), len(self.neighbours) * values
        for one in self.neighbours:
            found += padded.take(one)
        return found

    def splat(self, pixels: np.ndarray) -> np.ndarray:
        return np.bincount(self.place, pixels, len(self.mass))


def solve(rgb: np.ndarray, noisy: np.ndarray, strength: float, small: np.ndarray | None = None) -> np.ndarray:
    """Smooth a map along a photograph.

    Depth sensors and stereo are noisier the farther they look: after a first solution a pixel counts by how noisy the
    map is at its level. What the solution then lacks is smoothed in the same way and added ("twicing", Tukey 1977):
    slopes and bends, which smoothness alone would flatten, come back, noise does not.

    Args:
        rgb: (H, W, 3) in 0..1. noisy: (H, W). strength: how much smoothness counts, about 1 to 1,000.
        small: (h, w) the map where it has fewer pixels, of which `noisy` was enlarged.

    Returns:
        (H, W) float32.
    """
    trust, found, places = None, np.zeros(noisy.size), _places(rgb)
    footprints = None if small is None else Footprints.of(noisy.shape, small.shape)
    wanted = _Data(noisy.ravel().astype(np.float64), None if small is None else small.ravel())
    for shift in SHIFTS:
        problem = _Problem.of(_grid(places, shift), strength, footprints)
        if trust is None:
            trust = _trust(wanted.dense, problem.solve(wanted, np.ones(noisy.size)))
        smooth = problem.solve(wanted, trust)
        found += smooth + problem.solve(wanted.less(smooth, footprints), trust)
    return (found / len(SHIFTS)).astype(np.float32).reshape(noisy.shape)


class _Data(NamedTuple):
    """A map as (N,) values of all pixels, and as (n,) means where it is a small one."""

    dense: np.ndarray
    means: np.ndarray | None

    def less(self, smooth: np.ndarray, footprints: Footprints | None) -> _Data:
        if self.means is None or footprints is None:
            return _Data(self.dense - smooth, None)
        return _Data(self.dense - smooth, self.means - footprints.means(smooth))


def _trust(noisy: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """How much each pixel counts, 1 on the mean: one over the variance of the noise, which is linear in the level."""
    residual = np.abs(noisy - smooth)
    mean, offset = residual.mean(), smooth - smooth.mean()
    slope = (offset @ residual) / max(float(offset @ offset), 1e-12)
    deviation = np.clip(mean + slope * offset, mean / UNEVEN, mean * UNEVEN)
    trust = deviation.clip(min=1e-12) ** -2
    return np.asarray(trust / trust.mean())


class _Problem(NamedTuple):
    """What smoothness is on a grid, the same for all maps: the linear system but for the data."""

    grid: _Grid
    balance: np.ndarray
    mass: np.ndarray
    strength: float
    shares: Shares | None

    @classmethod
    def of(cls, grid: _Grid, strength: float, footprints: Footprints | None) -> _Problem:
        balance = np.ones(len(grid.mass))
        for _ in range(BALANCING):
            balance = np.sqrt(balance * grid.mass / grid.blur(balance))
        shares = None if footprints is None else Shares.of(footprints, grid.place)
        return cls(grid, balance, balance * grid.blur(balance), strength, shares)

    def solve(self, data: _Data, trust: np.ndarray) -> np.ndarray:
        """(N,): `trust` is what each pixel of the map counts."""
        balance, splat = self.balance, self.grid.splat
        dense = trust if self.shares is None else (1 - MEANS) * trust
        counted, wanted = splat(dense), splat(dense * data.dense)
        start = splat(trust * data.dense) / splat(trust)
        diagonal = self.strength * (self.mass - len(self.grid.neighbours) * balance**2) + counted
        if self.shares is not None and data.means is not None:
            by_area = MEANS * self.shares.footprints.area * self.shares.footprints.means(trust)
            wanted = wanted + self.shares.transposed(by_area * data.means)
            diagonal = diagonal + self.shares.diagonal(by_area)

        def system(y: np.ndarray) -> np.ndarray:
            found = self.strength * (self.mass * y - balance * self.grid.blur(balance * y)) + counted * y
            if self.shares is not None:
                found += self.shares.transposed(by_area * self.shares.means(y))
            return found

        return _conjugate_gradients(system, wanted, start, diagonal)[self.grid.place]


def _conjugate_gradients(
    system: Callable[[np.ndarray], np.ndarray], right: np.ndarray, x: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """Solve system(x) = right from x on, preconditioned by the diagonal."""
    residual = right - system(x)
    step = residual / diagonal
    energy = residual @ step
    enough = TOLERANCE**2 * max(energy, 1e-30)
    for _ in range(ITERATIONS):
        if energy <= enough:
            break
        moved = system(step)
        length = energy / (step @ moved)
        x, residual = x + length * step, residual - length * moved
        towards = residual / diagonal
        before, energy = energy, residual @ towards
        step = towards + energy / before * step
    return x


def _places(rgb: np.ndarray) -> np.ndarray:
    """(5, N) place and colour of each pixel, in steps of the grid."""
    height, width = rgb.shape[:2]
    levels = rgb.reshape(-1, 3).astype(np.float64) * 255
    y, x = (part.ravel() for part in np.mgrid[:height, :width])
    colours = ((levels @ row + 128) / CHROMA for row in _CHROMA)
    return np.stack([y / PLACE, x / PLACE, levels @ _LUMA / LUMA, *colours])


def _grid(places: np.ndarray, shift: float) -> _Grid:
    """`shift`: of the grid's corner, in its steps."""
    cells = np.floor(places + shift).astype(np.int64) + 1
    spans = cells.max(axis=1) + 2
    vertices, place = np.unique(np.ravel_multi_index(cells, spans), return_inverse=True)
    neighbours = np.empty((2 * len(spans), len(vertices)), np.int64)
    for number, stride in enumerate(np.append(np.cumprod(spans[:0:-1])[::-1], 1)):
        for side, sign in enumerate((-1, 1)):
            there = np.searchsorted(vertices, vertices + sign * stride).clip(max=len(vertices) - 1)
            known = vertices[there] == vertices + sign * stride
            neighbours[2 * number + side] = np.where(known, there, len(vertices))
    place = place.ravel()
    return _Grid(place, neighbours, np.bincount(place).astype(np.float64))
