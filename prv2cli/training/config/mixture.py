"""Settings of a mixture: several sets of photographs with depth (datasets/rgbd.py) and procedural scenes. No torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prv2cli.datasets.rgbd import RgbdData
from prv2cli.settings import PositiveInt, Settings, Size

_MULTIPLE = 32  # what the sides of a coarse network's input must be multiples of


class MixedSet(Settings):
    """One set below the mixture's `root`. share: of the samples of a run, beside the shares of the others."""

    folder: str
    share: Annotated[float, Field(gt=0)]
    hold_out: Annotated[int, Field(ge=0)] = 0
    sky_is_far: bool = False


class MixedScenes(Settings):
    """Procedural scenes of a pool (as `layout: scenes`), depth exact but of no scale that a picture could tell."""

    share: Annotated[float, Field(gt=0)]
    scenes: PositiveInt = 700
    still_lifes: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=64)] = 384
    seed: Annotated[int, Field(ge=0)] = 2
    cache: Path = Path("runs/scenes")


class MixtureData(Settings):
    """Photographs of several sets and scenes, in stated shares, each step's cut to one of several sizes.

    sizes: rows and columns of what the network sees; each step has one of them at random.
    crop: the share of the largest possible cut-out's sides that a sample shows.
    stretch: how much narrower or wider a cut-out may be than it is shown, as a factor.
    gamma, brightness, contrast, saturation, balance (of each channel): largest change, as a factor.
    grey, blurred: share of samples without colour, and out of focus. camera: with a lens, noise, a tone curve, JPEG.
    """

    layout: Literal["mixture"] = "mixture"
    root: Path
    sets: Annotated[tuple[MixedSet, ...], Field(min_length=1)]
    scenes: MixedScenes | None = None
    sizes: Annotated[tuple[Size, ...], Field(min_length=1)] = ((192, 224),)
    crop: tuple[float, float] = (0.55, 1.0)
    stretch: Annotated[float, Field(ge=1)] = 1.2
    gamma: Annotated[float, Field(ge=1)] = 1.4
    brightness: Annotated[float, Field(ge=1)] = 1.2
    contrast: Annotated[float, Field(ge=1)] = 1.4
    saturation: Annotated[float, Field(ge=1)] = 1.8
    balance: Annotated[float, Field(ge=1)] = 1.15
    grey: Annotated[float, Field(ge=0, le=1)] = 0.05
    blurred: Annotated[float, Field(ge=0, le=1)] = 0.15
    camera: Annotated[float, Field(ge=0, le=1)] = 0.5
    workers: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _sizes_and_crops_are_possible(self) -> MixtureData:
        for size in self.sizes:
            if any(side % _MULTIPLE for side in size):
                near = [max(_MULTIPLE, (side + _MULTIPLE // 2) // _MULTIPLE * _MULTIPLE) for side in size]
                raise ValueError(
                    f"sizes: {list(size)}: both sides must be multiples of {_MULTIPLE}; {near} would do"
                )
        low, high = self.crop
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop must be two numbers in 0..1, the smaller first, got {[low, high]}")
        folders = [part.folder for part in self.sets]
        if len(set(folders)) < len(folders):
            raise ValueError("sets: one folder stands there twice; give it one share")
        return self

    def data_of(self, part: MixedSet, *, held_out: bool = False) -> RgbdData:
        """The settings of one set."""
        return RgbdData(
            root=self.root / part.folder,
            hold_out=part.hold_out,
            held_out=held_out,
            sky_is_far=part.sky_is_far,
        )

    @property
    def shares(self) -> list[float]:
        """Of the sets, then of the scenes if there are any; together 1."""
        shares = [part.share for part in self.sets] + ([self.scenes.share] if self.scenes else [])
        return [share / math.fsum(shares) for share in shares]
