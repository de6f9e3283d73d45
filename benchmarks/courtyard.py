"""A courtyard to be drawn: a brick house, a bicycle, a ladder, a cable with bulbs, plants: much that is thin."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from ray_shapes import Array, Box, Ellipsoid, Paint, Shape, Tube, unit, upright

BRICK, PLASTER = Paint((0.42, 0.17, 0.1), "bricks"), Paint((0.78, 0.66, 0.47), "plaster")
STONE, WOOD = Paint((0.46, 0.43, 0.38), "tiles"), Paint((0.45, 0.27, 0.13), "planks")
TEAL, WHITE, IRON = Paint((0.03, 0.22, 0.24), "planks"), Paint((0.8, 0.78, 0.72)), Paint((0.02, 0.02, 0.025))
RUBBER, CHROME, RED = Paint((0.015, 0.015, 0.015)), Paint((0.5, 0.5, 0.52)), Paint((0.55, 0.03, 0.03))
CLAY, BARK, GLASS = Paint((0.56, 0.2, 0.09)), Paint((0.14, 0.09, 0.05)), Paint((0.05, 0.08, 0.11))
BULB, LEATHER = Paint((1.0, 0.75, 0.3)), Paint((0.2, 0.08, 0.03))


def courtyard() -> list[Shape]:
    rng = np.random.default_rng(7)
    return [*house(), *bicycle(), *ladder(), *lights(), *potted(rng), *tree(rng), *crates()]


def house() -> Iterator[Shape]:
    yield Box((0, -0.5, 12), (30, 0.5, 14), STONE)
    yield Box((-5.3, 2.5, 5.2), (6.0, 3.0, 0.3), BRICK)
    yield Box((0, 3, 13), (30, 4, 0.3), PLASTER)
    yield Box((-1.75, 1.0, 4.9), (0.42, 1.0, 0.05), TEAL)
    for x in (-2.22, -1.28):
        yield Box((x, 1.05, 4.9), (0.05, 1.05, 0.09), WHITE)
    yield Box((-1.75, 2.1, 4.9), (0.52, 0.05, 0.09), WHITE)
    yield Box((-1.75, 0.06, 4.75), (0.6, 0.06, 0.25), STONE)
    yield Ellipsoid(np.array([-1.45, 1.0, 4.82]), np.eye(3) * 0.035, CHROME)
    for x in (2.4, 4.6):
        yield Box((x, 2.1, 12.7), (0.55, 0.8, 0.05), WHITE)
        yield Box((x, 2.1, 12.66), (0.47, 0.72, 0.05), GLASS)
        yield Box((x, 2.1, 12.63), (0.03, 0.72, 0.05), WHITE)
        yield Box((x, 2.1, 12.63), (0.47, 0.03, 0.05), WHITE)


def line(points: Array, radius: float, paint: Paint) -> Iterator[Shape]:
    """Tubes from point to point."""
    for first, second in pairwise(points):
        yield Tube(first, second, radius, paint)


def bicycle() -> Iterator[Shape]:
    turn, place = upright(0.35), np.array([-0.3, 0, 3.9])

    def at(x: float, y: float, z: float = 0.0) -> Array:
        return place + turn @ np.array([x, y, z])

    rear, front, crank, seat, head = (-0.52, 0.34), (0.55, 0.34), (-0.08, 0.29), (-0.22, 0.78), (0.38, 0.8)
    angles = np.linspace(0, 2 * np.pi, 49)
    for middle in (rear, front):
        ring = [at(middle[0] + 0.33 * np.cos(a), middle[1] + 0.33 * np.sin(a)) for a in angles]
        yield from line(np.array(ring), 0.02, RUBBER)
        for k, a in enumerate(angles[:-1:2]):
            rim = at(middle[0] + 0.32 * np.cos(a), middle[1] + 0.32 * np.sin(a))
            yield Tube(at(*middle, 0.03 * (-1) ** k), rim, 0.003, CHROME)
        yield Tube(at(*middle, -0.05), at(*middle, 0.05), 0.03, CHROME)
    for a, b in ((rear, crank), (rear, seat), (crank, seat), (crank, head), (seat, head)):
        yield Tube(at(*a), at(*b), 0.02, RED)
    yield Tube(at(0.36, 0.88), at(*front), 0.018, RED)
    yield Tube(at(*seat), at(-0.25, 0.9), 0.016, CHROME)
    yield Ellipsoid(at(-0.27, 0.92), np.diag([0.14, 0.035, 0.07]) @ turn.T, LEATHER)
    bar = [(0.3, 0.98, -0.28), (0.4, 0.99, -0.12), (0.36, 0.93, 0), (0.4, 0.99, 0.12), (0.3, 0.98, 0.28)]
    yield from line(np.array([at(*p) for p in bar]), 0.015, CHROME)
    for side in (-1, 1):
        yield Tube(at(0.3, 0.98, 0.28 * side), at(0.2, 0.96, 0.29 * side), 0.02, LEATHER)
        yield Tube(at(*crank), at(-0.08 + 0.12 * side, 0.29 - 0.1 * side, 0.06 * side), 0.012, CHROME)
    yield Ellipsoid(at(*crank, -0.04), np.diag([0.085, 0.085, 0.012]) @ turn.T, CHROME)
    yield Tube(at(-0.1, 0.28, 0.03), at(-0.3, 0.02, 0.2), 0.012, IRON)


def ladder() -> Iterator[Shape]:
    feet, tops = ((0.16, 0, 4.3), (0.54, 0, 4.3)), ((0.16, 2.35, 4.87), (0.54, 2.35, 4.87))
    for foot, top in zip(feet, tops, strict=True):
        yield Tube(np.array(foot), np.array(top), 0.025, WOOD)
    for share in np.arange(0.1, 1, 0.1):
        ends = [np.array(foot) + share * (np.array(top) - foot) for foot, top in zip(feet, tops, strict=True)]
        yield Tube(ends[0], ends[1], 0.016, WOOD)


def lights() -> Iterator[Shape]:
    """A cable with bulbs, hanging across."""
    ends, count = (np.array([-3.2, 2.25, 4.8]), np.array([2.6, 2.3, 3.0])), 41
    share = np.linspace(0, 1, count)[:, None]
    points = ends[0] + share * (ends[1] - ends[0]) - np.array([0, 1.5, 0]) * share * (1 - share)
    yield from line(points, 0.007, IRON)
    for point in points[2:-1:4]:
        yield Tube(point, point - [0, 0.05, 0], 0.016, IRON)
        yield Ellipsoid(point - [0, 0.1, 0], np.eye(3) * 0.042, BULB)


def leaf(foot: Array, tip: Array, width: float, rng: np.random.Generator, green: Array) -> Shape:
    along = tip - foot
    across = unit(np.cross(along, rng.normal(size=3))) * width
    thick = unit(np.cross(along, across)) * 0.004
    shade = green * rng.uniform(0.6, 1.4)
    colour = (float(shade[0]), float(shade[1]), float(shade[2]))
    return Ellipsoid((foot + tip) / 2, np.stack([along / 2, across, thick]), Paint(colour))


def potted(rng: np.random.Generator) -> Iterator[Shape]:
    foot = np.array([0.95, 0, 2.75])
    angles = np.linspace(0, 2 * np.pi, 33)
    rings = [(0.0, 0.13), (0.06, 0.145), (0.12, 0.16), (0.18, 0.172), (0.24, 0.185), (0.3, 0.2), (0.34, 0.21)]
    for height, radius in rings:
        ring = foot + np.stack(
            [radius * np.cos(angles), 0 * angles + height, radius * np.sin(angles)], axis=1
        )
        yield from line(ring, 0.035 if height < 0.34 else 0.03, CLAY)
    yield Ellipsoid(foot + np.array([0, 0.3, 0]), np.diag([0.2, 0.05, 0.2]), BARK)
    steps = np.linspace(0, 1, 7)[:, None]
    for k in range(13):
        heading, reach, height = k * 2.4, rng.uniform(0.15, 0.5), rng.uniform(0.5, 0.95)
        out = np.array([np.cos(heading), 0, np.sin(heading)])
        stem = foot + [0, 0.32, 0] + out * 0.06 + steps**1.6 * out * reach
        stem = stem + np.array([0, height, 0]) * (steps * (1.45 - 0.45 * steps**2) - 0.25 * steps**3)
        yield from line(stem, 0.008, Paint((0.12, 0.2, 0.05)))
        for place in stem[3:]:
            tip = place + unit(out * rng.uniform(0.2, 1) + rng.normal(size=3) * [0.7, 0.5, 0.7]) * 0.2
            yield leaf(place, tip, rng.uniform(0.035, 0.055), rng, np.array([0.07, 0.24, 0.04]))


def tree(rng: np.random.Generator) -> Iterator[Shape]:
    foot, fork = np.array([3.3, 0, 8.5]), np.array([3.2, 1.5, 8.5])
    yield Tube(foot, fork, 0.13, BARK)
    for k in range(9):
        heading = k * 2.4
        end = fork + np.array([1.1 * np.cos(heading), rng.uniform(0.6, 1.8), 1.1 * np.sin(heading)])
        yield Tube(fork, end, 0.05, BARK)
        for _ in range(60):
            place = fork + rng.uniform(0.4, 1.1) * (end - fork) + rng.normal(size=3) * 0.28
            yield leaf(
                place, place + unit(rng.normal(size=3)) * 0.24, 0.07, rng, np.array([0.12, 0.26, 0.04])
            )


def crates() -> Iterator[Shape]:
    for (x, y, z), turn in (((-1.25, 0.17, 3.0), 0.4), ((1.55, 0.17, 4.6), -0.3), ((1.5, 0.51, 4.65), 0.2)):
        yield Box((x, y, z), (0.24, 0.16, 0.18), WOOD, turn)
    yield Ellipsoid(np.array([-1.2, 0.44, 3.0]), np.eye(3) * 0.11, Paint((0.75, 0.45, 0.05)))
    yield Ellipsoid(np.array([0.25, 0.1, 2.95]), np.eye(3) * 0.1, Paint((0.1, 0.25, 0.5)))
