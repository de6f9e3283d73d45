"""What stands in a procedural scene: boxes, round and free-form bodies, and thin things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prv2cli.extras import import_opencv
from prv2cli.scenes.canvas import NEAR, Canvas, Mask, Window
from prv2cli.scenes.textures import FloatArray

Points = npt.NDArray[Any]


def rotation(yaw: float, pitch: float, roll: float) -> npt.NDArray[Any]:
    """A (3, 3) rotation about y, then x, then z."""
    cy, sy = np.cos(yaw), np.sin(yaw)
    cp, sp = np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def box(canvas: Canvas, centre: Points, half: Points, turn: npt.NDArray[Any], shadow: float | None) -> None:
    """A cuboid: its visible faces as planes, now and then with something painted on a face."""
    dice = canvas.dice
    for axis in range(3):
        for side in (-1, 1):
            normal = turn[:, axis] * side
            middle = centre + normal * half[axis]
            if np.dot(normal, middle) >= 0:
                continue  # faces away
            u, v = (turn[:, (axis + k) % 3] * half[(axis + k) % 3] for k in (1, 2))
            corners = np.array([middle + u + v, middle + u - v, middle - u - v, middle - u + v])
            if corners[:, 2].min() < 0.15:
                continue
            outline = canvas.project(corners)
            window = canvas.window_of(outline)
            if window is None or np.abs(outline).max() > 6 * canvas.size:
                continue
            cast = shadow if dice.chance(0.4) else None
            canvas.plane(normal, float(np.dot(normal, middle)), window, canvas.polygon(outline, window), cast)
            if dice.chance(0.35):
                _decal(canvas, normal, middle, u, v)


def _decal(canvas: Canvas, normal: Points, middle: Points, u: Points, v: Points) -> None:
    """Paint a rectangle on a face: an edge in the picture that is none in depth."""
    (a, b), (c, d) = canvas.dice.rng.uniform(-0.8, 0.8, (2, 2))
    corners = np.array([middle + u * s + v * t for s, t in ((a, b), (c, b), (c, d), (a, d))])
    outline = canvas.project(corners)
    window = canvas.window_of(outline)
    if window is None:
        return
    x, y = canvas.rays(window)
    depth = np.dot(normal, middle) / (normal[0] * x + normal[1] * y + normal[2])
    on_face = np.abs(depth - canvas.depth[window.slices]) < 0.02 * depth
    paint = canvas.paint(canvas.texture(window.shape))
    np.copyto(canvas.rgb[window.slices], paint, where=(canvas.polygon(outline, window) & on_face)[..., None])


def round_body(
    canvas: Canvas,
    centre: Points,
    radius: float,
    stretch: tuple[float, float],
    angle: float,
    *,
    bump: float = 0.0,
    shadow: float | None = None,
    cylinder: bool = False,
) -> None:
    """An ellipsoid, or a cylinder standing in the picture plane, shaded, with relief and highlights."""
    dice = canvas.dice
    middle_x, middle_y = canvas.project(np.array([centre]))[0]
    pixels = radius * canvas.focal / centre[2]
    reach = pixels * max(stretch) * (1.5 if cylinder else 1)
    window = canvas.window_of(
        np.array([(middle_x - reach, middle_y - reach), (middle_x + reach, middle_y + reach)])
    )
    if window is None or pixels < 1:
        return
    x = (np.arange(window.left, window.right, dtype=np.float32)[None] - middle_x) / pixels
    y = (np.arange(window.top, window.bottom, dtype=np.float32)[:, None] - middle_y) / pixels
    cos, sin = np.cos(angle), np.sin(angle)
    across, along = (cos * x + sin * y) / stretch[0], (-sin * x + cos * y) / stretch[1]
    inside = 1 - across**2 if cylinder else 1 - across**2 - along**2
    mask = (np.abs(across) < 1) & (np.abs(along) < 1) if cylinder else inside > 0
    height = np.sqrt(np.maximum(inside, 0))
    bulge = radius * min(stretch)
    depth = centre[2] - bulge * height
    if cylinder:
        depth = depth + along * dice.uniform(-0.6, 0.6) * radius
    if bump > 0:
        depth = depth - bump * bulge * (canvas.relief(window.shape, (0.15, 0.6)) - 0.5)
    slope = across * np.dot(canvas.light[:2], [cos, sin])
    if not cylinder:
        slope = slope + along * np.dot(canvas.light[:2], [-sin, cos])
    shade = canvas.ambient + (1 - canvas.ambient) * np.clip(0.5 - 0.8 * slope + 0.2 * height, 0, 1.3)
    rgb = canvas.paint(canvas.texture(window.shape)) * shade[..., None]
    if dice.chance(0.3):
        toward = np.dot(canvas.light[:2], [cos, sin])
        spot = np.exp(-((across + toward * 0.5) ** 2 + (along + 0.4) ** 2) * dice.log_uniform(6, 60))
        rgb = rgb + dice.uniform(0.2, 0.9) * spot[..., None]
    canvas.put(window, mask, np.maximum(depth, NEAR).astype(np.float32), rgb.astype(np.float32), shadow)


def blob(canvas: Canvas, x: float, y: float, radius: float, depth: float, shadow: float | None) -> None:
    """A free-form body around a pixel: a flat cut-out, tilted at random, or a cushion; some with holes."""
    dice = canvas.dice
    outline = np.array([x, y]) + _outline(canvas, radius)
    window = canvas.window_of(outline)
    if window is None:
        return
    mask = canvas.polygon(outline, window)
    if dice.chance(0.25):
        mask &= ~_holes(canvas, mask, radius)
    if dice.chance(0.5):
        normal = np.array([dice.rng.normal(0, 0.6), dice.rng.normal(0, 0.6), -1.0])
        normal /= np.linalg.norm(normal)
        distance = float(np.dot(normal, canvas.lift(x, y, depth)))
        canvas.plane(normal, distance, window, mask, shadow)
    else:
        _cushion(canvas, window, mask, radius, depth, shadow)


def _outline(canvas: Canvas, radius: float) -> Points:
    """(N, 2) pixels around the origin: a smooth closed curve, a polygon, or a spiky star."""
    dice, kind = canvas.dice, canvas.dice.rng.random()
    if kind < 0.55:
        angle = np.linspace(0, 2 * np.pi, 220, endpoint=False)
        reach = np.ones_like(angle)
        for i in range(1, dice.integer(3, 14)):
            reach += dice.uniform(-0.45, 0.45) / i**1.1 * np.cos(i * angle + dice.angle())
    elif kind < 0.8:
        corners = dice.integer(3, 9)
        angle, reach = np.sort(dice.rng.uniform(0, 2 * np.pi, corners)), dice.rng.uniform(0.5, 1.2, corners)
    else:
        spikes = dice.integer(12, 60)
        angle = np.linspace(0, 2 * np.pi, spikes, endpoint=False)
        reach = dice.rng.uniform(0.35, 1.2, spikes)
    stretch, turn = np.sqrt(dice.log_uniform(0.3, 3)), dice.angle()
    u, v = radius * reach * np.cos(angle) * stretch, radius * reach * np.sin(angle) / stretch
    return np.stack([u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)], axis=1)


def _holes(canvas: Canvas, mask: Mask, radius: float) -> Mask:
    dice, holes = canvas.dice, np.zeros(mask.shape, np.uint8)
    for _ in range(dice.integer(1, 8)):
        centre = (dice.integer(0, mask.shape[1]), dice.integer(0, mask.shape[0]))
        axes = (max(1, int(radius * dice.uniform(0.03, 0.3))), max(1, int(radius * dice.uniform(0.03, 0.3))))
        import_opencv().ellipse(holes, centre, axes, dice.uniform(0, 180), 0, 360, 1, -1)
    return holes.astype(bool)


def _cushion(
    canvas: Canvas, window: Window, mask: Mask, radius: float, depth: float, shadow: float | None
) -> None:
    """Bulge a flat shape: height from the distance to its outline."""
    dice, cv2 = canvas.dice, import_opencv()
    inward = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    rim = float(inward.max()) + 1
    share = np.clip(inward / rim, 0, 1)
    height = np.sqrt(share * (2 - share)).astype(np.float32)
    surface = depth - dice.uniform(0, 0.8) * min(radius / canvas.focal * depth, 0.5 * depth) * height
    if dice.chance(0.4):
        surface = surface - dice.uniform(0, 0.08) * depth * (canvas.relief(window.shape, (0.15, 0.6)) - 0.5)
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3)
    slope = np.clip((slope_x * canvas.light[0] + slope_y * canvas.light[1]) * rim * 0.15, -0.5, 0.5)
    shade = np.clip(canvas.ambient + (1 - canvas.ambient) * (0.5 + 0.4 * height) - slope, 0.1, 1.5)
    rgb = canvas.paint(canvas.texture(window.shape)) * shade[..., None]
    canvas.put(window, mask, np.maximum(surface, NEAR).astype(np.float32), rgb.astype(np.float32), shadow)


# --- thin things: what a coarse map loses first -----------------------------------------------------------


def strands(
    canvas: Canvas,
    lines: Sequence[Points],
    widths: Sequence[float] | npt.NDArray[Any],
    depth: float,
    colours: Sequence[FloatArray],
    *,
    slope: tuple[float, float] = (0.0, 0.0),
    scatter: float = 0.0,
    shadow: float | None = None,
) -> None:
    """Polylines around one depth: a slope across the whole, a scatter between them, far ones drawn first."""
    dice = canvas.dice
    window = canvas.window_of(np.concatenate(list(lines)), 4)
    if window is None:
        return
    owner = np.zeros(window.shape, np.int32)
    for number, (line, width) in enumerate(zip(lines, widths, strict=True), 1):
        points = np.round((line - [window.left, window.top]) * 16).astype(np.int32)
        import_opencv().polylines(owner, [points], False, number, max(1, int(width)), 8, 4)
    mask = owner > 0
    if not mask.any():
        return
    offsets = np.concatenate([[0], np.sort(dice.rng.normal(0, scatter, len(lines)))[::-1]]).astype(np.float32)
    x = np.linspace(-0.5, 0.5, window.shape[1], dtype=np.float32)[None]
    y = np.linspace(-0.5, 0.5, window.shape[0], dtype=np.float32)[:, None]
    surface = depth * (1 + slope[0] * x + slope[1] * y + offsets[owner])
    rgb = np.concatenate([np.zeros((1, 3)), np.asarray(colours)]).astype(np.float32)[owner]
    if dice.chance(0.5):
        rgb = rgb * (0.6 + 0.8 * canvas.texture(window.shape))[..., None]
    canvas.put(window, mask, np.maximum(surface, NEAR).astype(np.float32), rgb.astype(np.float32), shadow)


def poles(canvas: Canvas) -> None:
    """One pole, or a fence of several with cross bars."""
    dice, size = canvas.dice, canvas.size
    depth, count = dice.log_uniform(0.8, 15), 1 if dice.chance(0.6) else dice.integer(2, 14)
    colour, angle = canvas.colour(), dice.uniform(-0.1, 0.1) if dice.chance(0.7) else dice.uniform(0, np.pi)
    width = dice.log_uniform(1.5, 14)
    spacing = width * dice.log_uniform(2, 12)
    start = np.array([dice.uniform(0, size), dice.uniform(0, size)])
    along = np.array([np.sin(angle), np.cos(angle)]) * size * dice.log_uniform(0.15, 2)
    step = np.array([np.cos(angle), -np.sin(angle)]) * spacing
    lines = [np.array([start + step * i - along / 2, start + step * i + along / 2]) for i in range(count)]
    if count > 1 and dice.chance(0.6):
        for place in dice.rng.uniform(-0.5, 0.5, dice.integer(1, count)):
            lines.append(np.array([start - along * place, start - along * place + step * count]))  # noqa: PERF401
    strands(
        canvas,
        lines,
        [width * dice.log_uniform(0.9, 1.1) for _ in lines],
        depth,
        [colour * dice.log_uniform(0.8, 1.25) for _ in lines],
        slope=(dice.uniform(-0.4, 0.4), dice.uniform(-0.1, 0.1)),
        shadow=dice.uniform(0.2, 0.6) if dice.chance(0.4) else None,
    )


def wires(canvas: Canvas) -> None:
    """A few hanging cables across the whole picture."""
    dice, size = canvas.dice, canvas.size
    count, depth = dice.integer(1, 7), dice.log_uniform(1, 12)
    colour = canvas.colour() * dice.uniform(0.1, 1)
    x = np.linspace(-0.1, 1.1, 50) * size
    height, slope = dice.uniform(0, size), dice.uniform(-0.6, 0.6) * size
    sag, upright = dice.uniform(0, 0.5) * size, dice.chance(0.3)
    lines = []
    for i in range(count):
        y = height + slope * x / size + sag * (x / size - 0.5) ** 2 * 4 + i * dice.log_uniform(4, 40)
        line = np.stack([x, y], axis=1)
        lines.append(line[:, ::-1].copy() if upright else line)
    colours = [colour * dice.log_uniform(0.8, 1.2) for _ in lines]
    widths = [dice.log_uniform(1, 4)] * count
    strands(canvas, lines, widths, depth, colours, slope=(dice.uniform(-0.6, 0.6), 0.0), scatter=0.03)


def hair(
    canvas: Canvas, centre: Points | None = None, radius: float | None = None, depth: float | None = None
) -> None:
    """A tuft of hair around a point, or a strip of grass."""
    dice, size = canvas.dice, canvas.size
    centre = np.array([dice.uniform(0, size), dice.uniform(0, size)]) if centre is None else centre
    radius = size * dice.log_uniform(0.04, 0.25) if radius is None else radius
    depth = dice.log_uniform(0.7, 6) if depth is None else depth
    count, heading, spread = dice.integer(20, 260), dice.angle(), dice.uniform(0.5, 6.3)
    curl, grass, steps = dice.uniform(-1.5, 1.5), dice.chance(0.4), np.linspace(0, 1, 9)
    lines = []
    for _ in range(count):
        angle, length = heading + dice.uniform(-0.5, 0.5) * spread, radius * dice.log_uniform(0.3, 1.8)
        if grass:
            root = centre + np.array([dice.uniform(-2, 2), dice.uniform(-0.1, 0.1)]) * radius
            angle = -np.pi / 2 + dice.uniform(-0.5, 0.5)
        else:
            root = centre + np.array([np.cos(angle), np.sin(angle)]) * radius * dice.uniform(0, 0.9)
        bend = angle + (curl + dice.uniform(-0.6, 0.6)) * steps
        lines.append(root + np.stack([length * steps * np.cos(bend), length * steps * np.sin(bend)], axis=1))
    colour = canvas.colour()
    strands(
        canvas,
        lines,
        dice.rng.integers(1, 7, count) if grass else dice.rng.choice([1, 1, 2, 2, 3, 4], count),
        depth,
        [colour * dice.log_uniform(0.5, 1.5) for _ in lines],
        slope=(dice.uniform(-0.1, 0.1), dice.uniform(-0.1, 0.1)),
        scatter=0.08 if grass else 0.02,
        shadow=dice.uniform(0.1, 0.5) if dice.chance(0.4) else None,
    )


def foliage(canvas: Canvas) -> None:
    """A cloud of leaves at scattered depths, mostly on branches."""
    dice, size = canvas.dice, canvas.size
    count, depth = dice.integer(10, 160), dice.log_uniform(0.7, 12)
    centre = np.array([dice.uniform(0, size), dice.uniform(0, size)])
    reach = size * dice.log_uniform(0.06, 0.4)
    leaf, scatter = reach * dice.log_uniform(0.05, 0.3), dice.uniform(0.01, 0.15)
    colour, places = canvas.colour(), centre + dice.rng.normal(0, 0.5, (count, 2)) * reach
    if dice.chance(0.6):
        _branches(canvas, centre, places, reach, depth, scatter, colour)
    window = canvas.window_of(places, int(leaf * 2) + 2)
    if window is None:
        return
    owner = _leaves(canvas, places, leaf, window)
    depths = np.sort(depth * (1 + dice.rng.normal(0, scatter, count)))[::-1]
    tilt = 1 + dice.uniform(-0.05, 0.05) * np.linspace(-1, 1, window.shape[1])[None]
    surface = np.concatenate([[1e3], depths])[owner] * tilt
    colours = [colour * dice.log_uniform(0.5, 1.6) + dice.rng.normal(0, 0.03, 3) for _ in range(count)]
    rgb = np.concatenate([np.zeros((1, 3)), np.asarray(colours)]).astype(np.float32)[owner]
    rgb = rgb * (0.7 + 0.6 * canvas.texture(window.shape))[..., None]
    shadow = dice.uniform(0.1, 0.6) if dice.chance(0.6) else None
    nearest = np.maximum(surface, NEAR).astype(np.float32)
    canvas.put(window, owner > 0, nearest, rgb.astype(np.float32), shadow)


def _branches(
    canvas: Canvas,
    centre: Points,
    places: Points,
    reach: float,
    depth: float,
    scatter: float,
    colour: FloatArray,
) -> None:
    dice = canvas.dice
    tips = places[dice.rng.integers(0, len(places), min(len(places), 25))]
    lines = [
        np.array([centre, centre + (tip - centre) * 0.5 + dice.rng.normal(0, 0.05, 2) * reach, tip])
        for tip in tips
    ]
    colours = [colour * np.float32(dice.uniform(0.2, 0.7)) for _ in lines]
    strands(canvas, lines, dice.rng.integers(1, 6, len(lines)), depth, colours, scatter=scatter * 0.5)


def _leaves(canvas: Canvas, places: Points, leaf: float, window: Window) -> npt.NDArray[np.int32]:
    """Number of the leaf at each pixel, 0 = none; later leaves lie over earlier ones."""
    dice, slender = canvas.dice, np.sqrt(canvas.dice.log_uniform(1.2, 4))
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    shape = np.stack(
        [np.cos(angle) * np.abs(np.cos(angle)) ** 0.3 * slender, np.sin(angle) / slender], axis=1
    )
    owner = np.zeros(window.shape, np.int32)
    for number, place in enumerate(places, 1):
        turn, size = dice.angle(), leaf * dice.log_uniform(0.5, 1.6)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = place + (shape * size) @ matrix.T - [window.left, window.top]
        import_opencv().fillPoly(owner, [np.round(points * 16).astype(np.int32)], number, shift=4)
    return owner
