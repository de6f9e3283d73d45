"""The canvas that procedural scenes are drawn on: a pinhole camera, colour, depth, and a z-buffered `put`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from prv2cli.extras import import_opencv
from prv2cli.scenes.textures import TEXTURE_SIZE, Dice, FloatArray, random_colour, texture_bank

Mask = npt.NDArray[np.bool_]
FAR = 400.0  # metres: nothing is farther
NEAR = 0.1


class Window(NamedTuple):
    """A rectangle of pixels: left, top, right, bottom (right and bottom excluded)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Canvas:
    """A picture in the making: `rgb` (N, N, 3) float32 about 0..1 and `depth` (N, N) float32 metres."""

    def __init__(self, size: int, dice: Dice) -> None:
        self.size, self.dice = size, dice
        self.rgb = np.zeros((size, size, 3), np.float32)
        self.depth = np.full((size, size), 1e9, np.float32)
        self.focal = dice.uniform(0.7, 2.0) * size
        self.centre_x = size / 2 + dice.uniform(-0.3, 0.3) * size
        self.centre_y = size / 2 + dice.uniform(-0.3, 0.3) * size
        light = dice.rng.standard_normal(3)
        light[1] -= 1  # light comes rather from above
        self.light = light / np.linalg.norm(light)
        self.ambient = dice.uniform(0.3, 0.8)
        self.palette = [random_colour(dice) for _ in range(dice.integer(3, 9))]

    @property
    def everything(self) -> Window:
        return Window(0, 0, self.size, self.size)

    # --- geometry ------------------------------------------------------------------------------------------

    def project(self, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(N, 3) metres in camera coordinates (x right, y down, z forward) -> (N, 2) pixels."""
        points = np.asarray(points)
        x = self.focal * points[:, 0] / points[:, 2] + self.centre_x
        y = self.focal * points[:, 1] / points[:, 2] + self.centre_y
        return np.stack([x, y], axis=1)

    def lift(self, x: float, y: float, depth: float) -> npt.NDArray[Any]:
        """The point at a pixel and a depth, (3,) metres."""
        return np.array(
            [(x - self.centre_x) / self.focal * depth, (y - self.centre_y) / self.focal * depth, depth]
        )

    def rays(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """x/z (1, w) and y/z (h, 1) of the window's pixels."""
        x = (np.arange(window.left, window.right, dtype=np.float32)[None] - self.centre_x) / self.focal
        y = (np.arange(window.top, window.bottom, dtype=np.float32)[:, None] - self.centre_y) / self.focal
        return x.astype(np.float32), y.astype(np.float32)

    def window_of(self, points: npt.NDArray[Any], margin: int = 2) -> Window | None:
        """The visible rectangle around pixel positions, or None when nothing of it is in the picture."""
        points = np.asarray(points)
        left, top = (np.floor(points.min(0)).astype(int) - margin).tolist()
        right, bottom = (np.ceil(points.max(0)).astype(int) + margin).tolist()
        window = Window(max(left, 0), max(top, 0), min(right, self.size), min(bottom, self.size))
        return window if min(window.shape) > 1 else None

    def polygon(self, points: npt.NDArray[Any], window: Window) -> Mask:
        mask = np.zeros(window.shape, np.uint8)
        corners = np.round((np.asarray(points) - [window.left, window.top]) * 16).astype(np.int32)
        import_opencv().fillPoly(mask, [corners], 1, shift=4)
        return mask.astype(bool)

    # --- colour --------------------------------------------------------------------------------------------

    def colour(self) -> FloatArray:
        """A colour, mostly a variation of the scene's palette."""
        dice = self.dice
        if not dice.chance(0.7):
            return random_colour(dice)
        varied = dice.pick(self.palette) * dice.log_uniform(0.6, 1.6) + dice.rng.normal(0, 0.05, 3)
        return np.clip(varied, 0, 1.2).astype(np.float32)

    def paint(self, texture: FloatArray) -> FloatArray:
        """Colour a grey texture: nearly flat, or between two colours. (h, w) -> (h, w, 3)."""
        dice = self.dice
        first = self.colour()
        if dice.chance(0.22):
            return (first * (1 + dice.uniform(0, 0.12) * (texture[..., None] - 0.5))).astype(np.float32)
        second = self.colour() if dice.chance(0.6) else first * dice.uniform(0.4, 0.9)
        return (first + (second - first) * texture[..., None]).astype(np.float32)

    def texture(self, shape: tuple[int, int], zoom: tuple[float, float] = (0.3, 3.0)) -> FloatArray:
        """A random texture, turned and scaled in the picture plane."""
        return self._lay(self.dice.pick(texture_bank().patterns), shape, zoom)

    def relief(
        self, shape: tuple[int, int], zoom: tuple[float, float], which: int | None = None
    ) -> FloatArray:
        """A smooth random height map, about 0..1. `which`: from rough (0) to soft (4)."""
        reliefs = texture_bank().reliefs
        return self._lay(self.dice.pick(reliefs) if which is None else reliefs[which], shape, zoom)

    def _lay(self, texture: FloatArray, shape: tuple[int, int], zoom: tuple[float, float]) -> FloatArray:
        dice, cv2 = self.dice, import_opencv()
        scale, angle, stretch = dice.log_uniform(*zoom), dice.angle(), dice.log_uniform(0.6, 1.6)
        matrix = np.array(
            [
                [scale * np.cos(angle), -scale * np.sin(angle), dice.uniform(0, TEXTURE_SIZE)],
                [scale * np.sin(angle), scale * np.cos(angle) * stretch, dice.uniform(0, TEXTURE_SIZE)],
            ],
            np.float32,
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(texture, matrix, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_WRAP)

    def lambert(self, normal: npt.NDArray[Any]) -> float:
        return self.ambient + (1 - self.ambient) * abs(float(np.dot(normal, self.light)))

    # --- drawing -------------------------------------------------------------------------------------------

    def put(
        self, window: Window, mask: Mask, depth: FloatArray, rgb: FloatArray, shadow: float | None = None
    ) -> None:
        """Draw where the mask holds and nothing nearer is there. `shadow`: how strong a shadow it casts."""
        behind = self.depth[window.slices]
        visible = mask & (depth < behind)
        if shadow:
            self.cast_shadow(window, mask, shadow)
        np.copyto(behind, depth, where=visible, casting="same_kind")
        np.copyto(self.rgb[window.slices], rgb, where=visible[..., None], casting="same_kind")

    def cast_shadow(self, window: Window, mask: Mask, strength: float) -> None:
        """Darken a displaced, blurred copy of the mask: an edge in the picture that is none in depth."""
        dice = self.dice
        reach = int(dice.log_uniform(3, 40))
        dx, dy = int(dice.uniform(-reach, reach)), int(dice.uniform(-0.3 * reach, reach))
        left, top = max(window.left + dx, 0), max(window.top + dy, 0)
        right, bottom = min(window.right + dx, self.size), min(window.bottom + dy, self.size)
        if right - left < 3 or bottom - top < 3:
            return
        rows = slice(top - dy - window.top, bottom - dy - window.top)
        columns = slice(left - dx - window.left, right - dx - window.left)
        shade = mask[rows, columns].astype(np.float32)
        softness = int(dice.log_uniform(0.6, 8))
        if softness > 1:
            shade = import_opencv().blur(shade, (2 * softness + 1, 2 * softness + 1))
        self.rgb[top:bottom, left:right] *= (1 - strength * shade)[..., None]

    def plane(
        self,
        normal: npt.NDArray[Any],
        distance: float,
        window: Window,
        mask: Mask | None = None,
        shadow: float | None = None,
    ) -> None:
        """Draw the plane normal . X = distance (metres), its texture in true perspective, exact depth."""
        dice, cv2 = self.dice, import_opencv()
        normal = np.asarray(normal, float)
        normal = normal / np.linalg.norm(normal)
        x, y = self.rays(window)
        inverse = ((normal[0] * x + normal[1] * y + normal[2]) / distance).astype(np.float32)
        depth = (1 / np.maximum(inverse, 1 / FAR)).astype(np.float32)
        typical = float(np.median(depth[::8, ::8]))
        texture = cv2.warpPerspective(
            dice.pick(texture_bank().patterns),
            self._plane_to_texture(normal, distance, window, typical),
            (window.shape[1], window.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        # Far texture is faded instead of filtered: cheap, and what matters is that it does not alias.
        texture = 0.5 + (texture - 0.5) * np.clip(1.5 * typical / depth, 0, 1)
        rgb = self.paint(texture) * np.float32(self.lambert(normal))
        if dice.chance(0.4):
            rgb *= (1 + dice.uniform(-0.5, 0.5) * _to_unit(depth))[..., None]
        hit = inverse > 1 / FAR
        self.put(window, hit if mask is None else mask & hit, depth, rgb, shadow)

    def _plane_to_texture(
        self, normal: npt.NDArray[Any], distance: float, window: Window, typical: float
    ) -> npt.NDArray[Any]:
        """The homography from the window's pixels to texture coordinates on the plane."""
        dice = self.dice
        along = np.cross(normal, [0.3, 1, 0.2])
        along /= np.linalg.norm(along)
        across, angle = np.cross(normal, along), dice.angle()
        along, across = (
            np.cos(angle) * along + np.sin(angle) * across,
            np.cos(angle) * across - np.sin(angle) * along,
        )
        scale = dice.log_uniform(0.3, 2.5) * self.focal / max(typical, 0.1)
        pixel_to_ray = np.array(
            [
                [1 / self.focal, 0, (window.left - self.centre_x) / self.focal],
                [0, 1 / self.focal, (window.top - self.centre_y) / self.focal],
                [0, 0, 1],
            ]
        )
        return np.stack([along * scale, across * scale, normal / distance]) @ pixel_to_ray


def _to_unit(values: FloatArray) -> FloatArray:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low + 1e-6)
