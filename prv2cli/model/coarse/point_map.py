"""From a point map that is known up to a shift in depth to a camera: focal length and shift.

    points ── 64 x 64 samples ── least squares of focal * xy / (z + shift) - uv ── focal, shift

Positions uv on the picture are relative to its centre and to half its diagonal, so its corners are at distance 1; the
focal length is in the same unit. The camera looks along z, x to the right and y down.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_SAMPLES = 64  # along each side
_STEPS = 100
_DAMPING = (1e-3, 1e12)  # at the beginning, and where no step helps any more
# Of the sum of squares: the last step is one that promises to take off no more than the first share, as the authors
# have it, and none is made for less than the second. A flat wall seen straight on fits any focal length with a shift
# to it, so that a search for the very best would end anywhere.
_ENOUGH, _NOTHING = 1e-3, 1e-7
_FARTHEST = 1000.0  # of the depth itself: no lens sees anything from that far away
_ROUNDING = 1e-12  # of the positions' own sum of squares: float32 has no more


class Camera(NamedTuple):
    """focal: in half diagonals of the picture. shift: to be added to z, in the units of the points.

    known: the points, or who asked, tell the focal length; else it is a guess.
    """

    focal: float
    shift: float
    known: bool = True


def plane_positions(rows: int, columns: int, aspect: float) -> Tensor:
    """(2, rows, columns): u and v of the centres of a picture's cells, in half diagonals from its centre.

    aspect: width / height of the picture, whatever the number of cells.
    """
    diagonal = math.hypot(1.0, aspect)
    u = torch.arange(1 - columns, columns, 2, dtype=torch.float64) * (aspect / diagonal / columns)
    v = torch.arange(1 - rows, rows, 2, dtype=torch.float64) * (1 / diagonal / rows)
    grid = torch.stack([u.expand(rows, -1), v[:, None].expand(-1, columns)])
    return grid.float()


def recover_camera(points: Tensor, valid: Tensor, focal: float | None = None) -> Camera:
    """The camera under which a point map projects to its own pixels best.

    Args:
        points: (3, H, W) x, y, z, right but for a shift of z and a common scale.
        valid: (H, W), boolean: which points count.
        focal: in half diagonals, where it is known: only the shift is sought then.

    Returns:
        The least squares over 64 x 64 samples. With fewer than two valid ones, or where they tell nothing of a camera:
        no shift, and a focal length of 1 that is not known, unless it is given.
    """
    height, width = points.shape[-2:]
    rows, columns = (torch.arange(_SAMPLES) * side // _SAMPLES for side in (height, width))
    rows = rows[:, None]
    seen = valid.cpu()[rows, columns].numpy()
    uv = plane_positions(height, width, width / height)[:, rows, columns].double().numpy()[:, seen].T
    xyz = points.detach().float().cpu()[:, rows, columns].double().numpy()[:, seen].T
    unknown = Camera(1.0, 0.0, known=False) if focal is None else Camera(focal, 0.0)
    if len(uv) < 2:
        return unknown
    with np.errstate(all="ignore"):  # a step onto a point's own depth divides by 0, and is taken back
        found = _least_squares(uv, xyz[:, :2], xyz[:, 2], focal)
        possible = abs(found.shift) <= _FARTHEST * np.median(np.abs(xyz[:, 2]))
    return found if possible and math.isfinite(found.focal) else unknown


def _least_squares(uv: np.ndarray, xy: np.ndarray, z: np.ndarray, focal: float | None) -> Camera:
    """Levenberg-Marquardt from a shift of 0: the minimum next to what the network meant."""
    shift, damping = 0.0, _DAMPING[0]
    fit = _Fit.at(uv, xy, z, shift, focal)
    floor = _ROUNDING * float(np.sum(uv**2))
    for _ in range(_STEPS):
        promised = fit.slope**2 / fit.curvature
        if not promised > max(_NOTHING * fit.error, floor) or damping > _DAMPING[1]:
            break
        step = -fit.slope / (fit.curvature * (1 + damping))
        tried = _Fit.at(uv, xy, z, shift + step, focal)
        if not tried.error < fit.error:
            damping *= 10
            continue
        done = promised <= _ENOUGH * fit.error
        shift, fit, damping = shift + step, tried, damping / 10
        if done:
            break
    return Camera(fit.focal, shift)


class _Fit(NamedTuple):
    """The sum of squares at a shift, its slope and curvature (Gauss-Newton's), and the focal length that is best."""

    error: float
    slope: float
    curvature: float
    focal: float

    @classmethod
    def at(cls, uv: np.ndarray, xy: np.ndarray, z: np.ndarray, shift: float, focal: float | None) -> _Fit:
        inverse = 1 / (z + shift)[:, None]
        projected = xy * inverse
        change = -projected * inverse
        focal_change = 0.0
        if focal is None:  # the best one, in closed form
            norm = np.sum(projected**2)
            focal = float(np.sum(projected * uv) / norm)
            focal_change = float((np.sum(change * uv) - 2 * focal * np.sum(projected * change)) / norm)
        residual = focal * projected - uv
        gradient = focal_change * projected + focal * change
        return cls(
            float(np.sum(residual**2)), float(np.sum(gradient * residual)), float(np.sum(gradient**2)), focal
        )
