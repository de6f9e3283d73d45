"""Draw docs/images/rendering.jpg, a courtyard with exactly known depth, and rendering_coarse.png, a map of 1/8 of it.

    python benchmarks/rendering.py [--out docs/images]

Rays meet the shapes of courtyard.py; the shadows are a picture from the sun's side. Always the same: every number is
written down or comes from one seed. The coarse map is what a network would give, by the degrader that the refiner is
trained with: edges blurred and displaced, thin parts lost in them, slowly wrong. It is a 16-bit PNG of millimetres.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from courtyard import courtyard
from PIL import Image
from ray_shapes import Array, Shape, unit
from torch.nn import functional as F

from prv2cli.training.config.samples import DegradeConfig
from prv2cli.training.samples.degrade import degrade

WIDTH, HEIGHT, FACTOR = 1536, 1024, 8
SAMPLES = 2  # along a pixel's side
SHADOWS = 4096  # pixels on a side of the picture from the sun
SUN = unit(np.array([-0.5, 0.78, -0.55]))  # towards it
SUNLIGHT, SKYLIGHT = np.array([1.9, 1.75, 1.5]), np.array([0.36, 0.42, 0.52])
FAULTS = DegradeConfig(
    factor=(FACTOR, FACTOR),
    blur=(0.5, 0.5),
    drop_thin=0.0,
    displacement=0.15,
    displaced=1.0,
    distortion=0.08,
    noise=0.0,
)
SEED = 7


# --- cameras: which rays belong to which pixels ---------------------------------------------------------------


class Camera:
    """Through a hole: `axes` are right, down and ahead. `focal` in pixels."""

    def __init__(self, place: Sequence[float], pitch: float, size: tuple[int, int], focal: float) -> None:
        self.place, self.size, self.focal = np.array(place), size, focal
        cos, sin = np.cos(pitch), np.sin(pitch)
        self.axes = np.array([[1, 0, 0], [0, -cos, -sin], [0, -sin, cos]])

    def pixels(self, points: Array) -> Array:
        """(n, 2) columns and rows; far outside for what lies behind."""
        seen = (points - self.place) @ self.axes.T
        return seen[:, :2] / np.maximum(seen[:, 2:], 0.05) * self.focal + np.array(self.size[::-1]) / 2

    def rays(self, rows: Array, columns: Array) -> tuple[Array, Array]:
        x = (columns[None, :] + 0.5 - self.size[1] / 2) / self.focal + 0 * rows[:, None]
        y = (rows[:, None] + 0.5 - self.size[0] / 2) / self.focal + 0 * columns[None, :]
        return self.place, np.stack([x, y, np.ones_like(x)], axis=-1) @ self.axes


class Sun:
    """Parallel rays from the sun's side over what can be seen of the courtyard."""

    def __init__(self, reach: float, middle: Sequence[float]) -> None:
        self.size, self.step, self.ahead = (SHADOWS, SHADOWS), 2 * reach / SHADOWS, -SUN
        right = unit(np.cross([0, 1, 0], self.ahead))
        self.axes = np.stack([right, np.cross(right, self.ahead), self.ahead])
        self.corner = np.array(middle) - reach * (self.axes[0] + self.axes[1]) - 30 * self.ahead

    def pixels(self, points: Array) -> Array:
        return (points - self.corner) @ self.axes[:2].T / self.step

    def depth(self, points: Array) -> Array:
        return (points - self.corner) @ self.ahead

    def rays(self, rows: Array, columns: Array) -> tuple[Array, Array]:
        across = (columns[None, :, None] + 0.5) * self.step * self.axes[0]
        start = self.corner + across + (rows[:, None, None] + 0.5) * self.step * self.axes[1]
        return start, np.broadcast_to(self.ahead, start.shape)


def cast(camera: Camera | Sun, shapes: Sequence[Shape]) -> tuple[Array, Array, Array]:
    """The first surface of every pixel: distance along the ray (H, W), its normal (H, W, 3), which shape (H, W)."""
    distance = np.full(camera.size, np.inf, np.float32)
    normal, owner = np.zeros((*camera.size, 3), np.float32), np.full(camera.size, -1, np.int32)
    for number, shape in enumerate(shapes):
        pixels = camera.pixels(shape.corners())
        low = np.clip(np.floor(pixels.min(0)).astype(int) - 1, 0, camera.size[::-1])
        high = np.clip(np.ceil(pixels.max(0)).astype(int) + 2, 0, camera.size[::-1])
        for top in range(low[1], high[1], 256):  # in bands, for the memory
            window = slice(top, min(top + 256, high[1])), slice(low[0], high[0])
            start, ray = camera.rays(np.arange(window[0].start, window[0].stop), np.arange(low[0], high[0]))
            if not ray.size:
                continue
            hit = shape.meet(start, ray)
            nearer = hit.distance < distance[window]
            distance[window][nearer] = hit.distance[nearer]
            normal[window][nearer] = hit.normal[nearer]
            owner[window][nearer] = number
    return distance, normal, owner


# --- what it looks like ---------------------------------------------------------------------------------------

_TABLE = np.random.default_rng(SEED).random((256, 256)).astype(np.float32)


def chance(u: Array, v: Array) -> Array:
    """A number in 0..1 for each pair of whole numbers."""
    return _TABLE[u.astype(int) & 255, v.astype(int) & 255]


def cloud(u: Array, v: Array, size: float) -> Array:
    """Smooth noise in 0..1 with bumps of `size`."""
    u, v = u / size, v / size
    low_u, low_v = np.floor(u), np.floor(v)
    a, b = u - low_u, v - low_v
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    first = chance(low_u, low_v) * (1 - a) + chance(low_u + 1, low_v) * a
    second = chance(low_u, low_v + 1) * (1 - a) + chance(low_u + 1, low_v + 1) * a
    return first * (1 - b) + second * b


def laid(u: Array, v: Array, size: tuple[float, float], joint: float, shift: float) -> tuple[Array, Array]:
    """Bricks, tiles and planks: the brightness of each piece in 0..1, and where the joints are."""
    row = np.floor(v / size[1])
    u = u + shift * size[0] * (row % 2)
    column = np.floor(u / size[0])
    within = (u - column * size[0] < joint) | (v - row * size[1] < joint)
    return chance(column * 7 + 3, row * 13 + 5), within


_LAID = {  # width and height of a piece, joint, shift of every other row; brightness of the joints
    "bricks": ((0.24, 0.08), 0.012, 0.5, 1.5),
    "tiles": ((0.62, 0.62), 0.014, 0.5, 0.45),
    "planks": ((0.105, 50.0), 0.006, 0.0, 0.35),
}


def colours(points: Array, normal: Array, shape: Shape) -> Array:
    """(n, 3) linear, of points on a shape."""
    x, y, z = points.T
    flat, sideways = np.abs(normal[:, 1]) > 0.7, np.abs(normal[:, 0]) > 0.7
    u, v = np.where(sideways, z, x), np.where(flat, z, y)
    pattern = shape.paint.pattern
    bright = 0.85 + 0.3 * cloud(u, v, 0.35)
    if pattern != "plain":
        bright *= 0.8 + 0.25 * cloud(u, v, 0.05) + 0.25 * cloud(u, v, 0.012)
    if pattern in _LAID:
        size, joint, shift, jointed = _LAID[pattern]
        pieces, within = laid(u, v, size, joint, shift)
        bright = bright * np.where(within, jointed, 0.65 + 0.6 * pieces)
    return bright[:, None] * np.array(shape.paint.colour)


def shade(camera: Camera, shapes: Sequence[Shape]) -> tuple[Array, Array]:
    """The picture (H, W, 3) linear, and its depth along the camera's axis (H, W) in metres."""
    distance, normal, owner = cast(camera, shapes)
    sun = Sun(9.0, (0.5, 1.0, 7.0))
    lit_depth = cast(sun, shapes)[0]
    rows, columns = np.arange(camera.size[0]), np.arange(camera.size[1])
    start, ray = camera.rays(rows, columns)
    points = start + ray * distance[..., None]
    picture = np.zeros((*camera.size, 3), np.float32)
    for number, shape in enumerate(shapes):
        mine = owner == number
        if mine.any():
            picture[mine] = colours(points[mine], normal[mine], shape)
    for band in np.array_split(rows, 16):
        lit = sunlit(sun, lit_depth, points[band] + 0.004 * normal[band])
        facing = np.maximum(normal[band] @ SUN, 0)
        sky = (0.62 + 0.38 * normal[band, :, 1]) * (
            1 - 0.45 * np.exp(-points[band, :, 1] / 0.12) * (facing < 0.7)
        )
        picture[band] *= (lit * facing)[..., None] * SUNLIGHT + sky[..., None] * SKYLIGHT
    return picture, distance


def sunlit(sun: Sun, lit_depth: Array, points: Array) -> Array:
    """How much of the sun each point sees, in 0..1."""
    pixels = np.floor(sun.pixels(points)).astype(int)
    depth, total = sun.depth(points) - 0.01, np.zeros(points.shape[:2])
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            place = np.clip(pixels + np.array([dx, dy]), 0, SHADOWS - 1)
            total += depth < lit_depth[place[..., 1], place[..., 0]]
    return total / 9


# --- the two files --------------------------------------------------------------------------------------------


def photograph(linear: Array) -> Array:
    """(H, W, 3) uint8: samples averaged, brought into range, in sRGB."""
    rows, columns, _ = linear.shape
    mean = linear.reshape(rows // SAMPLES, SAMPLES, columns // SAMPLES, SAMPLES, 3).mean(axis=(1, 3))
    mean = mean * 1.15 / (1 + 0.28 * mean)
    grain = np.random.default_rng(SEED).normal(0, 0.006, mean.shape)
    return np.clip((np.clip(mean, 0, 1) ** (1 / 2.2) + grain) * 255, 0, 255).astype(np.uint8)


def coarse_map(depth: Array) -> Array:
    """(H / FACTOR, W / FACTOR) metres, spoilt, of a map (H, W)."""
    whole = torch.from_numpy(depth.astype(np.float32))[None, None]
    spoilt = degrade(whole, FAULTS, torch.Generator().manual_seed(SEED)).depth
    small: Array = F.interpolate(spoilt, scale_factor=1 / FACTOR, mode="area")[0, 0].numpy()
    return small


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    folder = parser.parse_args().out
    size = (HEIGHT * SAMPLES, WIDTH * SAMPLES)
    linear, depth = shade(Camera((0.0, 1.3, 0.0), 0.13, size, 0.95 * size[1]), courtyard())
    Image.fromarray(photograph(linear)).save(folder / "rendering.jpg", quality=90)
    millimetres = np.rint(coarse_map(depth[::SAMPLES, ::SAMPLES]) * 1000).astype(np.uint16)
    Image.fromarray(millimetres).save(folder / "rendering_coarse.png", optimize=True)


if __name__ == "__main__":
    main()
