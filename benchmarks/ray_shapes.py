"""Shapes that rays meet, for drawn photographs: boxes, ellipsoids, tubes. Metres; x to the right, y up, z away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Hit(NamedTuple):
    """Along each ray: the distance, infinite where it misses, and what is across the surface."""

    distance: Array
    normal: Array


@dataclass(frozen=True)
class Paint:
    """colour: of the surface, linear. pattern: bricks, tiles, planks, plaster or plain, in metres along the surface."""

    colour: tuple[float, float, float]
    pattern: str = "plain"


@dataclass(frozen=True)
class Box:
    """Turned about the vertical by `turn`."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    paint: Paint
    turn: float = 0.0

    def corners(self) -> Array:
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
        return np.array(self.centre) + signs * self.half @ upright(self.turn).T

    def meet(self, start: Array, ray: Array) -> Hit:
        turn = upright(self.turn)
        start, ray = (start - np.array(self.centre)) @ turn, ray @ turn
        with np.errstate(all="ignore"):
            first, second = (
                (-np.sign(ray) * self.half - start) / ray,
                (np.sign(ray) * self.half - start) / ray,
            )
        near, far = first.max(-1), second.min(-1)
        axis = np.arange(3) == first.argmax(-1)[..., None]
        distance = np.where((near < far) & (near > 0), near, np.inf)
        return Hit(distance, (-np.sign(ray) * axis) @ turn.T)


@dataclass(frozen=True)
class Ellipsoid:
    """axes: (3, 3), its half axes as rows, at right angles."""

    centre: Array
    axes: Array
    paint: Paint

    def corners(self) -> Array:
        reach = np.linalg.norm(self.axes, axis=0)
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
        return self.centre + signs * reach

    def meet(self, start: Array, ray: Array) -> Hit:
        to_unit = self.axes.T / (self.axes**2).sum(1)
        start, ray = (start - self.centre) @ to_unit, ray @ to_unit
        a, b, c = (ray * ray).sum(-1), (start * ray).sum(-1), (start * start).sum(-1) - 1
        root = b * b - a * c
        distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        touched = start + np.where(root > 0, distance, 0)[..., None] * ray
        return Hit(distance, unit(touched @ to_unit.T))


@dataclass(frozen=True)
class Tube:
    """A round bar with round ends."""

    first: Array
    second: Array
    radius: float
    paint: Paint

    def corners(self) -> Array:
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T * self.radius
        return np.concatenate([self.first + signs, self.second + signs])

    def meet(self, start: Array, ray: Array) -> Hit:
        along = self.second - self.first
        from_first = start - self.first
        length = float(along @ along)
        across, behind = ray @ along, from_first @ along
        dots = (ray * ray).sum(-1), (ray * from_first).sum(-1), (from_first * from_first).sum(-1)
        a = length * dots[0] - across * across
        b = length * dots[1] - behind * across
        c = length * dots[2] - behind * behind - self.radius**2 * length
        root = b * b - a * c
        with np.errstate(all="ignore"):
            distance = (-b - np.sqrt(np.maximum(root, 0))) / a
        place = np.where(root > 0, behind + distance * across, -1)
        distance = np.where((root > 0) & (place > 0) & (place < length), distance, np.inf)
        for end in (self.first, self.second):
            distance = np.minimum(distance, self._end(start - end, ray, dots[0]))
        touched = from_first + np.where(np.isfinite(distance), distance, 0)[..., None] * ray
        middle = np.clip(touched @ along / length, 0, 1)
        return Hit(distance, unit(touched - middle[..., None] * along))

    def _end(self, start: Array, ray: Array, a: Array) -> Array:
        b = (start * ray).sum(-1)
        root = b * b - a * ((start * start).sum(-1) - self.radius**2)
        return np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)


Shape = Box | Ellipsoid | Tube


def unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def upright(turn: float) -> Array:
    """(3, 3) turn about the vertical; its columns are the turned axes."""
    cos, sin = np.cos(turn), np.sin(turn)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
