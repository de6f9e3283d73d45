"""Training samples from a mixture: photographs of several sets with depth of several kinds, and procedural scenes.

Sample i depends on the seed and i alone; all samples of one step have one size.

    set by its share ─ picture ─ cut-out of about the step's aspect ─ mirrored ─ resized ─ light, lens, colours
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from prv2cli.datasets.rgbd import Knowledge, Rgbd, RgbdSample
from prv2cli.extras import import_opencv
from prv2cli.training.config.mixture import MixedScenes, MixtureData
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.samples.augment import photograph
from prv2cli.training.samples.collate import BROKEN, Sample, first_usable
from prv2cli.training.samples.scene_pool import ScenePool


class _Scenes:
    """The pool of scenes as a set."""

    def __init__(self, config: MixedScenes) -> None:
        self._pool = ScenePool(scene_data(config))
        self.names = [str(self._pool.path(index).stem) for index in range(len(self._pool))]

    def __len__(self) -> int:
        return len(self._pool)

    def __getitem__(self, index: int) -> RgbdSample:
        rgb, depth = self._pool.load(index)
        return RgbdSample(self.names[index], rgb, np.asarray(1 / depth, np.float32), Knowledge.UP_TO_SCALE)


class MixedSamples(Dataset[Sample]):
    """Samples 0, 1, ... of a run. Keys of a batch of B:

    image    (B, 3, h, w)  0..1
    inverse  (B, 1, h, w)  inverse depth, 0 = infinitely far; 1/metres where `knowledge` says so, corrected for the
                           cut-out: what is shown larger looks nearer
    known    (B, 1, h, w)  bool
    knowledge  (B,) int64  datasets.rgbd.Knowledge

    A sample that cannot be read is replaced by another one, and told under BROKEN: [(name, why)].
    """

    def __init__(self, data: MixtureData, seed: int, length: int, together: int) -> None:
        """`together`: samples of one step. Raises UsageError, InputError as Rgbd."""
        self.data, self.seed, self.length, self.together = data, seed, length, together
        self.sets: list[Rgbd | _Scenes] = [Rgbd(data.data_of(part)) for part in data.sets]
        if data.scenes is not None:
            self.sets.append(_Scenes(data.scenes))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, index))
        step = np.random.default_rng((self.seed, index // self.together, 1))
        size = self.data.sizes[int(step.integers(len(self.data.sizes)))]
        sample, broken = self._read(rng)
        shown = show(sample, size, self.data, rng)
        return {
            "image": torch.from_numpy(shown.rgb.transpose(2, 0, 1).copy())[None].float() / 255,
            "inverse": torch.from_numpy(np.nan_to_num(shown.inverse))[None, None],
            "known": torch.from_numpy(~np.isnan(shown.inverse))[None, None],
            "knowledge": torch.tensor([int(sample.known)]),
            BROKEN: broken,
        }

    def _read(self, rng: np.random.Generator) -> tuple[RgbdSample, list[tuple[str, str]]]:
        """A picture of a set by the shares, or another where it is broken. Raises as first_usable."""

        def draw() -> tuple[str, Callable[[], RgbdSample]]:
            chosen = self.sets[int(rng.choice(len(self.sets), p=self.data.shares))]
            place = int(rng.integers(len(chosen)))
            return chosen.names[place], lambda: chosen[place]

        return first_usable(draw)


class Shown(NamedTuple):
    """What the network is shown: rgb (h, w, 3) uint8, inverse (h, w) float32 with NaN = not known."""

    rgb: np.ndarray
    inverse: np.ndarray


def show(sample: RgbdSample, size: tuple[int, int], data: MixtureData, rng: np.random.Generator) -> Shown:
    """A random cut-out of a picture at `size` (rows, columns), mirrored or not, in other light and colours."""
    cv2 = import_opencv()
    box = _cut_out(sample.rgb.shape[:2], size, data, rng)
    rgb = _part(sample.rgb, box)
    shrinks = rgb.shape[0] > size[0]
    rgb = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    inverse = _part(sample.inverse, box)
    # Never averaged: a mean of two surfaces is a surface that does not exist.
    inverse = cv2.resize(inverse, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    if sample.known is Knowledge.METRES:
        top, left, bottom, right = box
        inverse = inverse / np.float32(math.sqrt((bottom - top) * (right - left)))
    if rng.random() < 0.5:
        rgb, inverse = rgb[:, ::-1], inverse[:, ::-1]
    rgb = _recolour(np.ascontiguousarray(rgb), data, rng)
    if rng.random() < data.camera:
        rgb = photograph(rgb, rng)
    return Shown(np.ascontiguousarray(rgb), np.ascontiguousarray(inverse))


_Box = tuple[float, float, float, float]  # top, left, bottom, right, as shares of the sides


def _cut_out(
    shape: tuple[int, ...], size: tuple[int, int], data: MixtureData, rng: np.random.Generator
) -> _Box:
    """A random box of about the aspect of `size`."""
    height, width = shape[:2]
    stretch = math.exp(float(rng.uniform(-1, 1)) * math.log(data.stretch))
    aspect = size[1] / size[0] * stretch
    columns = min(width, height * aspect)
    share = float(rng.uniform(*data.crop))
    rows, columns = columns / aspect * share, columns * share
    top, left = float(rng.uniform(0, height - rows)), float(rng.uniform(0, width - columns))
    return top / height, left / width, (top + rows) / height, (left + columns) / width


def _part(values: np.ndarray, box: _Box) -> np.ndarray:
    """The pixels of an array within a box, at least two a side."""
    height, width = values.shape[:2]
    top, left = min(round(box[0] * height), height - 2), min(round(box[1] * width), width - 2)
    bottom, right = max(round(box[2] * height), top + 2), max(round(box[3] * width), left + 2)
    return np.ascontiguousarray(values[top:bottom, left:right])


def _recolour(rgb: np.ndarray, data: MixtureData, rng: np.random.Generator) -> np.ndarray:
    """Gamma, brightness, balance, contrast, saturation; now and then grey, now and then out of focus."""

    def factor(largest: float, count: int | None = None) -> np.ndarray:
        return np.exp(rng.uniform(-1, 1, count) * math.log(largest)).astype(np.float32)

    pixels = (rgb.astype(np.float32) / 255) ** factor(data.gamma)
    pixels *= factor(data.brightness) * factor(data.balance, 3)
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * factor(data.contrast)
    grey = pixels.mean(axis=2, keepdims=True)
    colour = np.float32(0) if rng.random() < data.grey else factor(data.saturation)
    pixels = grey + (pixels - grey) * np.minimum(colour, 1.3)
    if rng.random() < data.blurred:
        pixels = import_opencv().GaussianBlur(pixels, (0, 0), float(rng.uniform(0.6, 2.0)))
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def scene_data(config: MixedScenes) -> SceneDataConfig:
    """The pool's settings."""
    return SceneDataConfig(
        scenes=config.scenes,
        still_lifes=config.still_lifes,
        size=config.size,
        seed=config.seed,
        cache=config.cache,
        tile=min(256, config.size),
    )
