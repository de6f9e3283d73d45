"""Surface normals from depth and its camera: plane fits in small windows, on the smoother side of an edge.

    inverse depth w, rays ─ fits in windows around each pixel ─ the calmest one that holds the pixel ─ (h, w, 3)

For a plane n.P = d and a pixel whose ray is (x, y, 1), w = 1/Z = n.(x, y, 1) / d: inverse depth is linear in the
picture, whatever the slant. So n ~ (w_x, w_y, w - x w_x - y w_y), without an error for planes. The slopes are of a
least-squares plane in a window of (2r + 1)^2 pixels; of the nine windows that hold the pixel in their middle, on a side
or in a corner, the middle one is taken, unless another fits far better: so a window keeps to one side of an edge.

Normals are in the camera's space: x right, y up, z towards the camera (OpenGL); (0, 0, 0) where there is no depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from prv2cli.export.camera import Rays
from prv2cli.export.view import View

CALMER = 4.0  # times the squared residual of the best window that the middle one may have
NOISE = 1e-6  # of the inverse depth: differences that are no edge, of floats
RADIUS_OF_STEPS = 3  # of the windows, at least, where integers were stored
PER_SIDE = 2000  # else the longer side by that: what networks draw is the rougher, the more pixels there are
BAND_PIXELS = 1 << 19


class _Fit(NamedTuple):
    """Planes around each pixel: slopes per pixel and the mean squared residual, infinite where pixels are missing."""

    across: np.ndarray
    down: np.ndarray
    residual: np.ndarray


def usual_radius(view: View) -> int:
    """Of the windows, in pixels of the map."""
    return max(RADIUS_OF_STEPS if view.half_step else 1, round(max(view.shape) / PER_SIDE))


def normals_in_bands(view: View, step: int = 1, radius: int | None = None) -> Iterator[np.ndarray]:
    """(rows, w, 3) float32 of all rows of every `step`-th pixel, from the top; radius: of the windows, in pixels."""
    radius = max(1, round((radius or usual_radius(view)) / step))
    rays = view.rays(step)
    height, width = len(rays.y), len(rays.x)
    per_band = max(1, BAND_PIXELS // width)
    halo = 2 * radius
    for top in range(0, height, per_band):
        bottom = min(top + per_band, height)
        seen = slice(max(0, top - halo), min(height, bottom + halo))
        found = normals_of(view.closeness(step, seen), Rays(rays.x, rays.y[seen], rays.spacing), radius)
        yield found[top - seen.start : bottom - seen.start]


def normals_of(closeness: np.ndarray, rays: Rays, radius: int = 1) -> np.ndarray:
    """(h, w, 3) float32 unit normals, y up and z towards the camera, from inverse depth (h, w), NaN = no depth."""
    known = np.isfinite(closeness)
    across, down = _slopes(closeness, known, radius)
    w = np.where(known, closeness, 0).astype(np.float64)
    w_x, w_y = across / rays.spacing, down / rays.spacing
    normals = np.stack([-w_x, w_y, w - rays.x * w_x - rays.y[:, None] * w_y], axis=-1)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(known[..., None] & (length > 0), normals / np.maximum(length, 1e-30), 0).astype(
        np.float32
    )


def _slopes(closeness: np.ndarray, known: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of inverse depth per pixel, across and down; smaller windows where none is whole, at last neighbours."""
    across, down = _by_neighbours(closeness)
    missing = known.copy()
    for size in dict.fromkeys((radius, 1)):
        if not missing.any():
            break
        chosen = _calmest(_fits(closeness, known, size), NOISE * np.nan_to_num(closeness), size)
        found = missing & np.isfinite(chosen.residual)
        across[found], down[found] = chosen.across[found], chosen.down[found]
        missing &= ~found
    return across, down


def _fits(closeness: np.ndarray, known: np.ndarray, radius: int) -> _Fit:
    """The least-squares plane in the window of (2 radius + 1)^2 pixels around each pixel."""
    w = np.where(known, closeness, 0).astype(np.float64)
    pixels = (2 * radius + 1) ** 2
    spread = radius * (radius + 1) / 3  # the mean square of a place in the window
    in_columns = _summed(w, radius, 0)
    across = _leaning(in_columns, radius, 1) / (pixels * spread)
    down = _leaning(_summed(w, radius, 1), radius, 0) / (pixels * spread)
    mean = _summed(in_columns, radius, 1) / pixels
    residual = _summed(_summed(w * w, radius, 0), radius, 1) / pixels
    residual -= mean * mean + spread * (across * across + down * down)
    np.maximum(residual, 0, out=residual)
    rim = np.ones(w.shape, bool)
    rim[radius : w.shape[0] - radius, radius : w.shape[1] - radius] = False
    if not known.all():
        rim |= _summed(_summed((~known).astype(np.float32), radius, 0), radius, 1) > 0.5
    residual[rim] = np.inf
    return _Fit(across, down, residual)


def _calmest(fit: _Fit, noise: np.ndarray, radius: int) -> _Fit:
    """Of the windows that hold each pixel the middle one, or where another fits far better, that."""
    floor = noise.astype(np.float64) ** 2
    best = _Fit(fit.across.copy(), fit.down.copy(), fit.residual / CALMER - floor)
    for dy in (-radius, 0, radius):
        for dx in (-radius, 0, radius):
            if dy == dx == 0:
                continue
            here, there = _shifted(fit.across.shape, dy, dx)
            better = fit.residual[there] < best.residual[here]
            for own, other in zip(best, fit, strict=True):
                np.copyto(own[here], other[there], where=better)
    return best


def _by_neighbours(closeness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smaller of the differences to the two neighbours, across and down; 0 where there is neither."""
    slopes = []
    for axis in (1, 0):
        difference = np.diff(closeness.astype(np.float64), axis=axis)
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 1)
        padded = np.nan_to_num(np.pad(difference, pad, constant_values=np.nan), nan=np.inf)
        before, after = (np.take(padded, range(k, closeness.shape[axis] + k), axis) for k in (0, 1))
        smaller = np.where(np.abs(before) < np.abs(after), before, after)
        slopes.append(np.where(np.isfinite(smaller), smaller, 0.0))
    return slopes[0], slopes[1]


def _summed(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Sums of each pixel and its neighbours up to `radius` along an axis; those beyond the rim count as 0."""
    total = values.copy()
    for shift in range(1, radius + 1):
        for side in (-shift, shift):
            here, there = _along(values.shape, side, axis)
            total[here] += values[there]
    return total


def _leaning(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Sums of the neighbours up to `radius` along an axis, each times how far it is ahead; rims as above."""
    total = np.zeros_like(values)
    for shift in range(1, radius + 1):
        ahead, behind = _along(values.shape, shift, axis), _along(values.shape, -shift, axis)
        scaled = values * shift
        total[ahead[0]] += scaled[ahead[1]]
        total[behind[0]] -= scaled[behind[1]]
    return total


def _along(shape: tuple[int, ...], shift: int, axis: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    return _shifted(shape, shift if axis == 0 else 0, shift if axis == 1 else 0)


def _shifted(shape: tuple[int, ...], dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Two windows of equal size: pixels, and those `dy` rows below and `dx` columns right of them."""
    pairs = [
        (slice(max(0, -d), max(0, min(n, n - d))), slice(max(0, d), max(0, min(n, n + d))))
        for n, d in zip(shape, (dy, dx), strict=True)
    ]
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])
