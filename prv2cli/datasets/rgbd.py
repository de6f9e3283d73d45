"""Photographs with depth of any kind, one folder a set: for training networks that need not know the metres.

    <set>/rgb/NNNN.jpg, <set>/depth/NNNN.png     the depth 16-bit, of the photograph's aspect, 0 = not measured
    <set>/meta.json                              kind: depth | inverse; scale_to_metres: a number, or null

Without a scale depth is known up to a factor, inverse depth up to a factor and a shift. That is no truth for
`prv2 eval`, so this is a layout of training alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from prv2cli.datasets.folder import files_by_stem
from prv2cli.datasets.samples import FloatMap, check_root, read_json, read_numbers, read_rgb
from prv2cli.depth_files.decode import READ_SUFFIXES
from prv2cli.errors import InputError
from prv2cli.extras import import_opencv
from prv2cli.photo.kinds import PHOTO_SUFFIXES
from prv2cli.resampling.aspect import aspect_error
from prv2cli.settings import Settings

_ASPECT_TOLERANCE = 0.03  # more than of maps that are refined: those of cameras are cut here and there
_SKY_GRADIENT, _SKY_DARKEST, _SKY_REDDEST = 10.0, 60.0, 1.05


class Knowledge(IntEnum):
    """What the numbers of a depth map say."""

    METRES = 0
    UP_TO_SCALE = 1
    UP_TO_SCALE_AND_SHIFT = 2  # of inverse depth


class RgbdData(Settings):
    """One set. `hold_out`: so many of its last pictures are kept from training; `held_out`: only they are read.

    sky_is_far: where a picture is smooth from its upper border down, as a clear sky is, the stored depth is not
        believed, and it counts as infinitely far (stereo invents surfaces there).
    """

    root: Path
    hold_out: Annotated[int, Field(ge=0)] = 0
    held_out: bool = False
    sky_is_far: bool = False

    @model_validator(mode="after")
    def _some_are_held_out(self) -> RgbdData:
        if self.held_out and not self.hold_out:
            raise ValueError("held_out: hold_out says that none are")
        return self


@dataclass(frozen=True, eq=False)
class RgbdSample:
    """One photograph with what is known of its depth.

    Attributes:
        rgb: (H, W, 3) uint8.
        inverse: (h, w) float32 of the photograph's aspect, inverse depth in 1/metres or any unit; 0 = infinitely far,
            NaN = not known.
        known: what its numbers say.
    """

    name: str
    rgb: np.ndarray
    inverse: FloatMap
    known: Knowledge


class Rgbd:
    """The pictures of a set, in the order of their names."""

    def __init__(self, config: RgbdData) -> None:
        """Raises UsageError: no such folder. InputError: no picture, or no meta.json that says what the depth is."""
        root = check_root(config.root)
        self._config = config
        self.known, self._kind, self._scale = _read_meta(root / "meta.json")
        photographs = files_by_stem(check_root(root / "rgb"), PHOTO_SUFFIXES)
        maps = files_by_stem(check_root(root / "depth"), READ_SUFFIXES)
        pairs = [(stem, path, maps[stem]) for stem, path in photographs.items() if stem in maps]
        first = max(0, len(pairs) - config.hold_out)
        self._pairs = pairs[first:] if config.held_out else pairs[:first]
        if not self._pairs:
            raise InputError(
                f"{root}: no photograph in rgb/ with a file of its name in depth/"
                + (f" beyond the {config.hold_out} of hold_out" if config.hold_out else "")
            )
        self.names: Sequence[str] = [f"{root.name}/{stem}" for stem, _, _ in self._pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> RgbdSample:
        """Raises InputError: a file that cannot be read, a map of another aspect, or one without a depth."""
        _, photograph, depth_file = self._pairs[index]
        rgb = read_rgb(photograph)
        if rgb.dtype != np.uint8:
            rgb = (rgb >> 8).astype(np.uint8)
        numbers = read_numbers(depth_file).astype(np.float32)
        (height, width), (rows, columns) = rgb.shape[:2], numbers.shape
        if aspect_error((rows, columns), (height, width)) > _ASPECT_TOLERANCE:
            raise InputError(f"{depth_file}: {columns} x {rows} has another aspect than its photograph")
        inverse = self._inverse(numbers)
        if not np.isfinite(inverse).any():
            raise InputError(f"{depth_file}: no pixel has a depth")
        if self._config.sky_is_far:
            inverse[sky(rgb, inverse.shape)] = 0
        return RgbdSample(self.names[index], rgb, inverse, self.known)

    def _inverse(self, numbers: np.ndarray) -> FloatMap:
        measured = np.isfinite(numbers) & (numbers > 0)
        values = np.where(measured, numbers, np.float32(1)) * np.float32(self._scale)
        inverse = values if self._kind == "inverse" else 1 / values
        return np.where(measured, inverse, np.float32(np.nan)).astype(np.float32)


def _read_meta(path: Path) -> tuple[Knowledge, str, float]:
    """What is known, the kind of the numbers, and what makes metres (or anything) of them."""
    meta: Any = read_json(path)
    kind, scale = (meta.get("kind"), meta.get("scale_to_metres")) if isinstance(meta, dict) else (None, None)
    if kind not in ("depth", "inverse") or not (scale is None or _is_positive(scale)):
        raise InputError(
            f"{path}: needs kind (depth or inverse) and scale_to_metres (a number above 0, or null)"
        )
    if kind == "inverse":
        return Knowledge.UP_TO_SCALE_AND_SHIFT, kind, 1.0
    return (Knowledge.UP_TO_SCALE, kind, 1.0) if scale is None else (Knowledge.METRES, kind, float(scale))


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def sky(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns) bool: what is smooth, bright and not reddish, and hangs together with the upper border.

    Needs OpenCV (extra `train`).

    Args:
        rgb: (H, W, 3) uint8.
    """
    from PIL import Image

    pixels = np.asarray(Image.fromarray(rgb).resize((size[1], size[0]), Image.Resampling.BOX), np.float32)
    grey = pixels.mean(axis=2)
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    plain = (down + across < _SKY_GRADIENT) & (pixels[..., 2] > _SKY_DARKEST)
    plain &= pixels[..., 0] < _SKY_REDDEST * pixels[..., 2]
    _, label = import_opencv().connectedComponents(plain.astype(np.uint8), connectivity=4)
    above = np.unique(label[0][plain[0]])
    return np.isin(label, above)
