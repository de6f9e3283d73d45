"""Seeded random draws and the bank of grey textures that procedural scenes are painted with.

Everything here is derived from explicit seeds: nothing reads or changes global random state. OpenCV is
imported only when something is drawn, so this module can be imported without the `train` extra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from prv2cli.extras import import_opencv

FloatArray = npt.NDArray[np.float32]
T = TypeVar("T")

TEXTURE_SIZE = 512
_BANK_SEED = 1
_BANK_TEXTURES = 90
_RELIEF_ROUGHNESS = (1.4, 1.7, 2.0, 2.3, 2.6)


class Dice:
    """Random draws from one seeded generator, in the few distributions that scenes are made of."""

    def __init__(self, seed: int | tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(seed)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        """Uniform in the logarithm: as many draws between 1 and 2 as between 2 and 4."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def integer(self, low: int, high: int) -> int:
        """An integer with `low` included and `high` excluded."""
        return int(self.rng.integers(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.integer(0, len(items))]

    def angle(self) -> float:
        return self.uniform(0.0, 2 * np.pi)


@dataclass(frozen=True)
class TextureBank:
    """Tileable or wrapped grey images, (TEXTURE_SIZE, TEXTURE_SIZE) float32, about 0..1."""

    patterns: tuple[FloatArray, ...]  # what surfaces are painted with
    reliefs: tuple[FloatArray, ...]  # smooth fractals, from rough to soft, that surfaces are bent by


@lru_cache(maxsize=1)
def texture_bank() -> TextureBank:
    """The same bank in every process; made once, in about two seconds."""
    dice = Dice(_BANK_SEED)
    patterns = tuple(np.ascontiguousarray(dice.pick(_PATTERNS)(dice)) for _ in range(_BANK_TEXTURES))
    reliefs = tuple(stretch(_fractal(dice, roughness)) for roughness in _RELIEF_ROUGHNESS)
    for texture in (*patterns, *reliefs):
        texture.setflags(write=False)
    return TextureBank(patterns, reliefs)


def random_colour(dice: Dice) -> FloatArray:
    """One colour, (3,) float32 in 0..1: any hue, mostly little saturated, dark as often as bright."""
    value, saturation, hue = dice.log_uniform(0.08, 1.0), 0.9 * dice.uniform(0, 1) ** 1.7, dice.uniform(0, 6)
    chroma = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation + saturation * chroma)).astype(np.float32)


def stretch(image: npt.NDArray[Any]) -> FloatArray:
    """The image with its 2nd and 98th percentile moved to 0 and 1, clipped there."""
    low, high = np.percentile(image[::4, ::4], [2, 98])
    return np.clip((image - low) / (high - low + 1e-6), 0, 1).astype(np.float32)


def _fractal(dice: Dice, roughness: float | None = None) -> FloatArray:
    """Noise whose amplitude falls with frequency to the power of -roughness; tileable, random stretch."""
    exponent = dice.uniform(0.6, 2.2) if roughness is None else roughness
    noise = dice.rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32)
    spectrum = np.fft.rfft2(noise)
    vertical = np.fft.fftfreq(TEXTURE_SIZE)[:, None]
    horizontal = np.fft.rfftfreq(TEXTURE_SIZE)[None]
    frequency = np.sqrt(horizontal**2 * dice.log_uniform(0.3, 3) + vertical**2)
    frequency[0, 0] = 1
    spectrum = spectrum * frequency ** (-exponent)
    spectrum[0, 0] = 0
    return np.fft.irfft2(spectrum, s=noise.shape).astype(np.float32)


def _unit_grid() -> tuple[FloatArray, FloatArray]:
    """Rows (N, 1) and columns (1, N) in 0..1."""
    axis = (np.arange(TEXTURE_SIZE, dtype=np.float32) / TEXTURE_SIZE).astype(np.float32)
    return axis[:, None], axis[None]


def _grey_canvas(dice: Dice, low: float = 0, high: float = 255) -> npt.NDArray[np.uint8]:
    return np.full((TEXTURE_SIZE, TEXTURE_SIZE), int(dice.uniform(low, high)), np.uint8)


def _to_unit(image: npt.NDArray[np.uint8]) -> FloatArray:
    return image.astype(np.float32) / np.float32(255)


def _random_point(dice: Dice) -> tuple[int, int]:
    return dice.integer(0, TEXTURE_SIZE), dice.integer(0, TEXTURE_SIZE)


def _clouds(dice: Dice) -> FloatArray:
    return stretch(_fractal(dice))


def _stripes(dice: Dice) -> FloatArray:
    """Waves or hard stripes; bent by noise they look like wood."""
    rows, columns = _unit_grid()
    phase = 2 * np.pi * (dice.integer(4, 40) * columns + dice.integer(0, 20) * rows)
    if dice.chance(0.5):
        phase = phase + dice.uniform(0, 24) * stretch(_fractal(dice))
    wave = np.sin(phase)
    return stretch(wave) if dice.chance(0.5) else (wave > dice.uniform(-0.6, 0.6)).astype(np.float32)


def _checks(dice: Dice) -> FloatArray:
    rows, columns = _unit_grid()
    count = dice.integer(4, 24)
    checks = (np.floor(columns * count) + np.floor(rows * count)) % 2
    return (checks * dice.uniform(0.6, 1) + 0.2 * stretch(_fractal(dice))).astype(np.float32)


def _bricks(dice: Dice) -> FloatArray:
    rows, columns = _unit_grid()
    count = dice.integer(6, 24)
    course = np.floor(rows * count)
    along = columns * count / 2 + 0.5 * (course % 2)
    mortar = ((along % 1) < dice.uniform(0.03, 0.12)) | (((rows * count) % 1) < dice.uniform(0.06, 0.2))
    tone = dice.rng.random((64, 64))[course.astype(int) % 64, np.floor(along).astype(int) % 64]
    brick = 0.3 + 0.5 * tone + 0.2 * stretch(_fractal(dice))
    return np.where(mortar, dice.uniform(0, 1), brick).astype(np.float32)


def _cells(dice: Dice) -> FloatArray:
    """Voronoi cells: pebbles, or a mosaic of flat greys."""
    cv2 = import_opencv()
    count = dice.integer(30, 400)
    seeds = np.ones((TEXTURE_SIZE, TEXTURE_SIZE), np.uint8)
    seeds[dice.rng.integers(0, TEXTURE_SIZE, count), dice.rng.integers(0, TEXTURE_SIZE, count)] = 0
    distance, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    if dice.chance(0.4):
        return stretch(distance)
    return dice.rng.random(count + 2)[label % (count + 2)].astype(np.float32)


def _contours(dice: Dice) -> FloatArray:
    return stretch(np.sin(stretch(_fractal(dice, 1.6)) * dice.uniform(10, 50)))


def _strokes(dice: Dice) -> FloatArray:
    cv2 = import_opencv()
    image = _grey_canvas(dice)
    for _ in range(dice.integer(100, 700)):
        x, y = _random_point(dice)
        angle, length = dice.angle(), dice.uniform(5, 80)
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        cv2.line(image, (x, y), end, int(dice.uniform(0, 255)), dice.integer(1, 5), cv2.LINE_AA)
    return _to_unit(image)


def _spots(dice: Dice) -> FloatArray:
    """Overlapping ellipses of every size, as fallen leaves or pebbles."""
    cv2 = import_opencv()
    image = _grey_canvas(dice)
    for _ in range(dice.integer(80, 500)):
        axes = (int(dice.log_uniform(2, 50)), int(dice.log_uniform(2, 50)))
        grey = int(dice.uniform(0, 255))
        cv2.ellipse(image, _random_point(dice), axes, dice.uniform(0, 180), 0, 360, grey, -1, cv2.LINE_AA)
    return _to_unit(image)


def _writing(dice: Dice) -> FloatArray:
    cv2 = import_opencv()
    image = _grey_canvas(dice, 150, 255)
    for baseline in range(8, TEXTURE_SIZE, dice.integer(12, 40)):
        text = "".join(chr(code) for code in dice.rng.integers(33, 126, 60))
        font, scale = dice.integer(0, 6), dice.uniform(0.3, 1.2)
        ink, width = int(dice.uniform(0, 110)), dice.integer(1, 3)
        cv2.putText(image, text, (0, baseline), font, scale, ink, width, cv2.LINE_AA)
    return _to_unit(image)


# Clouds three times: the statistics of natural surfaces are closest to them.
_PATTERNS: tuple[Callable[[Dice], FloatArray], ...] = (
    _clouds, _clouds, _clouds, _stripes, _checks, _bricks, _cells, _contours, _strokes, _spots, _writing,
)  # fmt: skip
