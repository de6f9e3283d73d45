"""The fast bilateral solver (Barron and Poole, ECCV 2016), a rival in accuracy.py --fault sensor.

    photograph ─ pixels with one place and colour, in steps, share a vertex ─ bilateral grid
    target t, confidence c ─ splatted ─ min  lambda * smoothness over the grid + c (y - t)^2 ─ conjugate gradients
           ─ sliced

Written from the paper; the steps of place, luma and chroma, lambda and the splats' bistochastisation are as there.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

ROUNDS = 12  # of the bistochastisation
ITERATIONS, TOLERANCE = 60, 1e-5


class Steps(NamedTuple):
    """Of the grid: pixels, and 8-bit levels of luma and chroma."""

    place: float = 8.0
    luma: float = 4.0
    chroma: float = 4.0


class Grid(NamedTuple):
    """splat: (vertices, pixels), 0 or 1; blur: (vertices, vertices) neighbours and twice itself."""

    splat: sparse.csr_matrix
    blur: sparse.csr_matrix


def solve(
    rgb: np.ndarray, target: np.ndarray, confidence: np.ndarray, strength: float, steps: Steps | None = None
) -> np.ndarray:
    """The smoothest map, as the photograph has it, that stays near the target where that is to be trusted.

    Args:
        rgb: (H, W, 3) uint8. target: (H, W) float32. confidence: (H, W) 0..1. strength: lambda of the paper.

    Returns:
        (H, W) float32.
    """
    grid = _grid(rgb, steps or Steps())
    scale, offset = float(np.ptp(target)) or 1.0, float(target.min())
    wanted, trust = (
        ((target.ravel() - offset) / scale).astype(np.float64),
        confidence.ravel().astype(np.float64),
    )
    balance, mass = _bistochastic(grid)
    diagonal = sparse.diags(balance)
    smoothness = sparse.diags(mass) - diagonal @ grid.blur @ diagonal
    data = grid.splat @ trust
    system = strength * smoothness + sparse.diags(np.maximum(data, 1e-9))
    right = grid.splat @ (trust * wanted)
    start = right / np.maximum(data, 1e-9)
    inverse = sparse.diags(1 / np.maximum(system.diagonal(), 1e-9))
    found, _ = cg(system, right, x0=start, rtol=TOLERANCE, maxiter=ITERATIONS, M=inverse)
    return (grid.splat.T @ found * scale + offset).reshape(target.shape).astype(np.float32)


def _grid(rgb: np.ndarray, steps: Steps) -> Grid:
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width]
    colour = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb).astype(np.float64)
    parts = [y / steps.place, x / steps.place, colour[..., 0] / steps.luma]
    parts += [colour[..., k] / steps.chroma for k in (1, 2)]
    cells = np.stack([np.floor(part).astype(np.int64).ravel() for part in parts], axis=1)
    spans = cells.max(axis=0) + 3
    keys = np.ravel_multi_index((cells + 1).T, spans)
    vertices, index = np.unique(keys, return_inverse=True)
    pixels = np.arange(len(keys))
    splat = sparse.csr_matrix((np.ones(len(keys)), (index.ravel(), pixels)), (len(vertices), len(keys)))
    blur = 2 * len(spans) * sparse.identity(len(vertices), format="csr")
    strides = np.cumprod([1, *spans[:0:-1]])[::-1]
    for stride in strides:
        place = np.searchsorted(vertices, vertices + stride).clip(max=len(vertices) - 1)
        there = np.flatnonzero(vertices[place] == vertices + stride)
        ones = np.ones(len(there))
        along = sparse.csr_matrix((ones, (there, place[there])), blur.shape)
        blur = blur + along + along.T
    return Grid(splat, blur.tocsr())


def _bistochastic(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Factors of the vertices by which the blur keeps every vertex's mass, and the mass."""
    mass = np.asarray(grid.splat.sum(axis=1)).ravel()
    balance = np.ones(len(mass))
    for _ in range(ROUNDS):
        balance = np.sqrt(balance * mass / np.maximum(grid.blur @ balance, 1e-12))
    return balance, balance * (grid.blur @ balance)
