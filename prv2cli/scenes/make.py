"""Procedural scenes: a picture and its exact depth, from a seed.

A background (landscape, room, wall, drop cloth), then objects from far to near, then light that has nothing
to do with depth. Drawn at twice the size and reduced: colour is averaged as a lens would, depth never is,
because the mean of two surfaces is a surface that does not exist. Needs OpenCV (extra `train`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from prv2cli.extras import import_opencv
from prv2cli.scenes.canvas import FAR, Canvas
from prv2cli.scenes.shapes import blob, box, foliage, hair, poles, rotation, round_body, wires
from prv2cli.scenes.textures import TEXTURE_SIZE, Dice, FloatArray, random_colour, texture_bank

NEAREST = 0.05  # metres
# Weights of the Dirichlet draw of boxes, ellipsoids, cylinders, free forms, poles, wires, hair, foliage.
_OBJECT_SHARES = (1.5, 1.0, 0.9, 2.2, 0.7, 0.35, 0.5, 0.7)
_SOLID_SHARES = (1.5, 1.2, 1.2, 3.0, 0.25, 0.05, 0.05, 0.1)
Style = Literal["any", "still-life"]


@dataclass(frozen=True, eq=False)
class Scene:
    """rgb: (N, N, 3) uint8. depth: (N, N) float32 metres, > 0, exact."""

    rgb: np.ndarray
    depth: np.ndarray


class _Stage(NamedTuple):
    """Where objects may stand: their depths, the floor's distance below the camera, whether there is one."""

    near: float
    far: float
    floor: float
    has_floor: bool


def make_scene(
    seed: int | tuple[int, ...], size: int = 384, supersample: int = 2, style: Style = "any"
) -> Scene:
    """Draw the scene of a seed; it depends on nothing else.

    Args:
        size: pixels on a side. supersample: how much larger it is drawn.
        style: "still-life": mostly solid things close together before a wall, none of them far from the others.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    dice = Dice(seed)
    canvas = Canvas(size * supersample, dice)
    if style == "still-life":
        stage = _table(canvas)
        _objects(canvas, stage, _SOLID_SHARES, (15, 60))
    else:
        stage = _background(canvas)
        _objects(canvas, stage, _OBJECT_SHARES, (6, 45))
    if dice.chance(0.12):
        _portrait(canvas, stage)
    _light(canvas, stage)
    return Scene(_expose(canvas, size), _reduce_depth(canvas.depth, supersample))


# --- backgrounds ------------------------------------------------------------------------------------------


def _background(canvas: Canvas) -> _Stage:
    kind = canvas.dice.rng.random()
    if kind < 0.35:
        return _landscape(canvas)
    if kind < 0.65:
        return _room(canvas)
    return _wall(canvas) if kind < 0.85 else _backdrop(canvas)


def _landscape(canvas: Canvas) -> _Stage:
    """Sky, sometimes a ridge, and a ground plane."""
    dice, size = canvas.dice, canvas.size
    tilt, roll, floor = dice.uniform(-0.12, 0.12), dice.uniform(-0.08, 0.08), dice.uniform(0.6, 3)
    canvas.depth[:] = dice.log_uniform(40, 200)
    top, bottom = random_colour(dice), random_colour(dice)
    canvas.rgb[:] = top + (bottom - top) * np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    if dice.chance(0.5):
        canvas.rgb *= (0.6 + 0.8 * canvas.texture((size, size), (0.2, 1)))[..., None]
    if dice.chance(0.5):
        _ridge(canvas)
    canvas.plane(np.array([roll, 1, tilt]), floor, canvas.everything)
    return _Stage(1.2, 14, floor, True)


def _ridge(canvas: Canvas) -> None:
    dice, size = canvas.dice, canvas.size
    profile = texture_bank().reliefs[3][dice.integer(0, TEXTURE_SIZE)]
    profile = profile[np.linspace(0, dice.uniform(0.1, 1) * (TEXTURE_SIZE - 1), size).astype(int)]
    crest = canvas.centre_y - size * dice.uniform(-0.02, 0.2)
    crest = crest + size * dice.uniform(0.02, 0.15) * (profile - 0.5)
    mask = np.arange(size)[:, None] > crest[None]
    depth = np.full((size, size), dice.log_uniform(15, 40), np.float32)
    canvas.put(canvas.everything, mask, depth, canvas.paint(canvas.texture((size, size), (0.5, 3))))


def _room(canvas: Canvas) -> _Stage:
    dice = canvas.dice
    turn = rotation(dice.uniform(-0.7, 0.7), dice.uniform(-0.15, 0.25), dice.uniform(-0.05, 0.05))
    back = dice.log_uniform(2, 9)
    walls = (
        (turn[:, 2], back),
        (turn[:, 0], dice.uniform(1, 3.5)),
        (-turn[:, 0], dice.uniform(1, 3.5)),
        (turn[:, 1], dice.uniform(0.6, 2)),
        (-turn[:, 1], dice.uniform(0.6, 2)),
    )
    for normal, distance in walls:
        canvas.plane(normal, distance, canvas.everything)
    return _Stage(0.7, back, 1.2, True)


def _wall(canvas: Canvas) -> _Stage:
    """A slanted wall, sometimes uneven, sometimes with a table or floor before it."""
    dice, size = canvas.dice, canvas.size
    distance = dice.log_uniform(3, 60)
    normal = np.array([dice.rng.normal(0, 0.4), dice.rng.normal(0, 0.4), 1])
    canvas.plane(normal, distance / float(np.linalg.norm(normal)), canvas.everything)
    stage = _Stage(distance * dice.log_uniform(0.05, 0.4), distance * 0.97, 1.0, False)
    if dice.chance(0.5):
        canvas.depth *= 1 + dice.uniform(0, 0.15) * (canvas.relief((size, size), (0.1, 0.5)) - 0.5)
    if dice.chance(0.4):
        height = dice.uniform(0.2, 0.6) * distance * 0.5
        canvas.plane(np.array([0, 1, dice.uniform(0, 0.6)]), height, canvas.everything)
    return stage


def _backdrop(canvas: Canvas) -> _Stage:
    """An uneven cloth, often out of focus."""
    dice, size = canvas.dice, canvas.size
    distance = dice.log_uniform(3, 60)
    canvas.depth[:] = distance * (
        1 + dice.uniform(-0.4, 0.4) * (canvas.relief((size, size), (0.1, 0.3), which=4) - 0.5)
    )
    canvas.rgb[:] = canvas.paint(canvas.texture((size, size)))
    if dice.chance(0.6):
        width = int(dice.log_uniform(3, 25))
        canvas.rgb = import_opencv().blur(canvas.rgb, (width, width))
    return _Stage(distance * dice.log_uniform(0.03, 0.5), distance * 0.97, 1.0, False)


def _table(canvas: Canvas) -> _Stage:
    """A wall or cloth within a room's distance, mostly with a table or floor before it."""
    dice, size = canvas.dice, canvas.size
    distance = dice.log_uniform(1, 8)
    normal = np.array([dice.rng.normal(0, 0.3), dice.rng.normal(0, 0.3), 1])
    canvas.plane(normal, distance / float(np.linalg.norm(normal)), canvas.everything)
    if dice.chance(0.5):
        canvas.depth *= 1 + dice.uniform(0, 0.15) * (canvas.relief((size, size), (0.1, 0.5)) - 0.5)
    floor = dice.uniform(0.1, 0.4) * distance
    if dice.chance(0.6):
        canvas.plane(np.array([0, 1, dice.uniform(0, 0.4)]), floor, canvas.everything)
    return _Stage(distance * dice.uniform(0.4, 0.75), distance * 0.98, floor, True)


# --- objects ----------------------------------------------------------------------------------------------


def _objects(canvas: Canvas, stage: _Stage, mixture: Sequence[float], count: tuple[int, int]) -> None:
    """Objects from far to near, of a mixture that is the scene's own."""
    dice = canvas.dice
    number = int(dice.log_uniform(*count))
    depths = np.sort(np.exp(dice.rng.uniform(np.log(stage.near), np.log(stage.far), number)))[::-1]
    shares = dice.rng.dirichlet(mixture)
    for depth in depths.tolist():
        kind = int(dice.rng.choice(len(shares), p=shares))
        if kind < 4:
            _body(canvas, stage, kind, depth)
        else:
            _THIN[kind - 4](canvas)


_THIN: tuple[Callable[[Canvas], None], ...] = (poles, wires, hair, foliage)


def _body(canvas: Canvas, stage: _Stage, kind: int, depth: float) -> None:
    dice, size = canvas.dice, canvas.size
    x, y = dice.uniform(-0.1, 1.1) * size, dice.uniform(-0.1, 1.1) * size
    shadow = dice.uniform(0.1, 0.7) if dice.chance(0.5) else None
    centre, radius = canvas.lift(x, y, depth), dice.log_uniform(0.02, 0.28) * size / canvas.focal * depth
    if kind == 0:
        half = radius * dice.rng.uniform(0.3, 1.3, 3)
        pitch = dice.uniform(-0.15, 0.5) if dice.chance(0.7) else dice.uniform(-1.5, 1.5)
        roll = dice.uniform(-0.1, 0.1) if dice.chance(0.7) else dice.uniform(-1.5, 1.5)
        if stage.has_floor and dice.chance(0.7):
            centre[1] = stage.floor - half[1]
        box(canvas, centre, half, rotation(dice.uniform(-1.5, 1.5), pitch, roll), shadow)
    elif kind == 1:
        stretch = (dice.uniform(0.5, 1), dice.uniform(0.5, 1))
        bump = dice.uniform(0, 0.4) if dice.chance(0.4) else 0.0
        round_body(canvas, centre, radius, stretch, dice.uniform(0, np.pi), bump=bump, shadow=shadow)
    elif kind == 2:
        stretch = (dice.uniform(0.1, 0.7), dice.uniform(0.6, 1.4))
        angle = dice.uniform(-0.3, 0.3) if dice.chance(0.7) else dice.uniform(0, np.pi)
        round_body(canvas, centre, radius, stretch, angle, shadow=shadow, cylinder=True)
    else:
        blob(canvas, x, y, dice.log_uniform(0.015, 0.3) * size, depth, shadow)


def _portrait(canvas: Canvas, stage: _Stage) -> None:
    """An ellipsoid with hair before everything else."""
    dice, size = canvas.dice, canvas.size
    depth = stage.near * dice.uniform(0.8, 1.2)
    x, y = dice.uniform(0.2, 0.8) * size, dice.uniform(0.3, 0.8) * size
    radius = dice.uniform(0.08, 0.25) * size
    stretch = (dice.uniform(0.7, 1), dice.uniform(0.8, 1.2))
    centre = canvas.lift(x, y, depth)
    round_body(canvas, centre, radius / canvas.focal * depth, stretch, 0.0, shadow=dice.uniform(0.2, 0.6))
    hair(canvas, np.array([x, y - radius * 0.3]), radius, depth * 0.97)


# --- light ------------------------------------------------------------------------------------------------


def _light(canvas: Canvas, stage: _Stage) -> None:
    """Patches of light and shade, unevenness, haze, contrast: what changes the picture and not the depth."""
    dice, size = canvas.dice, canvas.size
    for _ in range(dice.integer(0, 4)):
        canvas.rgb *= (1 + dice.uniform(-0.7, 0.5) * _patch(canvas))[..., None]
    if dice.chance(0.5):
        uneven = canvas.relief((size, size), (0.05, 0.3), which=4) - 0.5
        canvas.rgb *= np.exp(dice.uniform(-0.8, 0.8) * uneven)[..., None]
    if dice.chance(0.15):
        density = dice.log_uniform(0.01, 0.1) / max(stage.far * 0.1, 0.3)
        clear = np.exp(-density * canvas.depth)[..., None]
        canvas.rgb = canvas.rgb * clear + random_colour(dice) * (1 - clear)
    if dice.chance(0.15):
        canvas.rgb = np.maximum(canvas.rgb, 0) ** np.float32(dice.uniform(0.6, 1.6))


def _patch(canvas: Canvas) -> FloatArray:
    """A soft or hard polygon, or the shadow of bars, over the whole picture: (N, N) in 0..1."""
    dice, cv2, half = canvas.dice, import_opencv(), canvas.size // 2
    mask = np.zeros((half, half), np.float32)
    points = dice.rng.uniform(0, half, (dice.integer(3, 8), 2)).astype(np.int32)
    if dice.chance(0.5):
        cv2.fillPoly(mask, [points], 1.0)
    else:
        for a, b in pairwise(points):
            cv2.line(mask, a.tolist(), b.tolist(), 1.0, int(dice.log_uniform(1, 30)))
    if dice.chance(0.7):
        width = int(dice.log_uniform(1, 20)) * 2 + 1
        mask = cv2.blur(mask, (width, width))
    return cv2.resize(mask, (canvas.size, canvas.size), interpolation=cv2.INTER_LINEAR)


def _expose(canvas: Canvas, size: int) -> np.ndarray:
    """Average down to the final size and bring a bright part to mid grey: (size, size, 3) uint8."""
    dice, cv2 = canvas.dice, import_opencv()
    rgb = cv2.resize(canvas.rgb.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    if dice.chance(0.8):
        bright = max(1e-3, float(np.percentile(rgb, dice.uniform(50, 90))))
        rgb = rgb * (dice.uniform(0.35, 0.65) / bright)
    return np.clip(rgb * 255, 0, 255).astype(np.uint8)


def _reduce_depth(depth: FloatArray, factor: int) -> np.ndarray:
    """One true depth per pixel, not a mean: the second nearest of its samples, so half a thin part counts."""
    rows, columns = depth.shape
    samples = depth.reshape(rows // factor, factor, columns // factor, factor).swapaxes(1, 2)
    flat = np.sort(samples.reshape(rows // factor, columns // factor, factor * factor), axis=-1)
    chosen = flat[..., min(1, factor * factor - 1)]
    return np.clip(chosen, NEAREST, FAR).astype(np.float32)
