"""Points in space: which pixels become one, where they lie, and .ply files of them.

Everything that is written is right-handed, in metres, as seen from the camera at the origin: x to the right, y up, z
towards the camera, so that the scene lies along -z. That is what glTF asks for; .ply and .obj, which have no rule, get
the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from prv2cli.depth_files.ours.signature import MADE_BY
from prv2cli.export.view import View
from prv2cli.extras import import_plyfile

AXES = "right-handed, metres: x right, y up, z towards the camera, which is at the origin"
MAX_POINTS = 16_000_000
_BAND_POINTS = 1 << 20


class PointsReport(NamedTuple):
    """How many points were written, and of every how-many-th pixel in each direction."""

    points: int
    step: int


def smallest_step(height: int, width: int, fits: Callable[[int, int], bool]) -> int:
    """Every how-many-th pixel in each direction is taken, so that what is left `fits` (rows, columns)."""
    step = 1
    while not fits(math.ceil(height / step), math.ceil(width / step)):
        step += 1
    return step


def write_points(file: BinaryIO, view: View, max_points: int = MAX_POINTS) -> PointsReport:
    """A binary .ply of a point for each pixel with depth, coloured where there is a photograph.

    max_points: of more pixels every second one in each direction is taken, or every third, and so on; 0 = all.
    """
    plyfile = import_plyfile()
    step = smallest_step(*view.shape, lambda rows, columns: not 0 < max_points < rows * columns)
    vertices = _vertices(view, step)
    element = plyfile.PlyElement.describe(vertices, "vertex")
    plyfile.PlyData([element], byte_order="<", comments=[MADE_BY, AXES]).write(file)
    return PointsReport(len(vertices), step)


def place(z: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(..., 3) float32 points of depth z on the rays (x, y, 1), with y up and z towards the camera."""
    return np.stack([x * z, -y * z, -z], axis=-1).astype(np.float32)


def _vertices(view: View, step: int) -> np.ndarray:
    """A structured array of the points, as plyfile describes them."""
    z, colours, rays = view.metres(step), view.colours(step), view.rays(step)
    known = np.isfinite(z)
    fields: list[Any] = [(axis, "<f4") for axis in "xyz"]
    if colours is not None:
        fields += [(colour, "u1") for colour in ("red", "green", "blue")]
    vertices = np.empty(int(np.count_nonzero(known)), fields)
    first, per_band = 0, max(1, _BAND_POINTS // z.shape[1])
    for top in range(0, len(z), per_band):
        rows = slice(top, top + per_band)
        i, j = np.nonzero(known[rows])
        part = vertices[first : first + len(i)]
        first += len(i)
        found = place(z[rows][i, j], rays.x[j], rays.y[rows][i])
        part["x"], part["y"], part["z"] = found.T
        if colours is not None:
            part["red"], part["green"], part["blue"] = colours[rows][i, j].T
    return vertices
