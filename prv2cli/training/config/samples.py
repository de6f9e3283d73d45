"""Settings of how samples are made: cut from photographs, changed at random, and true depth maps spoilt."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator

from prv2cli.settings import NonNegative, Positive, Probability, Range, Settings, Size


class SamplingConfig(Settings):
    """What is cut from the photographs of a data set, for every stage of a coarse network or a bundle.

    image: rows and columns that photographs and truth are brought to first; None: they stay, and must be of one size
        where whole photographs are trained on.
    tile: rows and columns of a random tile, in pixels of that; the paper's are 540 x 960 of 2160 x 3840.
    min_depth, max_depth: metres; truth between them counts.
    min_valid: a tile with a smaller share of such truth is drawn anew, a few times.
    """

    image: Size | None = None
    tile: Size = (540, 960)
    min_depth: NonNegative = 1e-3
    max_depth: Positive = 80.0
    min_valid: Probability = 1e-3
    workers: Annotated[int, Field(ge=0)] = 4

    @model_validator(mode="after")
    def _sizes_and_depths_fit(self) -> SamplingConfig:
        if self.image and (self.tile[0] > self.image[0] or self.tile[1] > self.image[1]):
            raise ValueError(f"tile {list(self.tile)} does not fit into image {list(self.image)}")
        if self.min_depth >= self.max_depth:
            raise ValueError(f"min_depth must be below max_depth, got {self.min_depth} and {self.max_depth}")
        return self


class AugmentConfig(Settings):
    """What is done to the photographs of a data set at random. The defaults are the authors'.

    flip: share of samples that are mirrored. rotate: degrees, at most, to either side.
    colour: share of samples whose `gamma`, `brightness` and `balance` (of each channel) are drawn from their ranges.
    camera: share of samples with a lens, noise, a tone curve and JPEG (for rendered pictures; needs OpenCV).
    """

    flip: Probability = 0.5
    rotate: Annotated[float, Field(ge=0, le=45)] = 1.0
    colour: Probability = 0.5
    gamma: Range = (0.9, 1.1)
    brightness: Range = (0.9, 1.1)
    balance: Range = (0.9, 1.1)
    camera: Probability = 0.0

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> AugmentConfig:
        for key in ("gamma", "brightness", "balance"):
            low, high = getattr(self, key)
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{key} must be two numbers above 0, the smaller first, got {[low, high]}")
        return self


class DegradeConfig(Settings):
    """How a true depth map is spoilt into a coarse one; lengths are in low-resolution pixels.

    `displaced`, `noisy` and `drop_thin` are the shares of samples with that fault. Mild faults in few samples teach
    most: where an edge may lie anywhere, the coarse map says nothing about where it is.
    """

    factor: tuple[float, float] = (4.0, 16.0)
    blur: tuple[float, float] = (0.0, 1.4)
    displacement: float = 0.25
    displaced: Probability = 0.3
    distortion: float = 0.01
    noise: float = 0.03
    noisy: Probability = 0.15
    drop_thin: Probability = 0.2
    spaces: tuple[float, float, float] = (0.4, 0.35, 0.25)

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> DegradeConfig:
        if not 1 <= self.factor[0] <= self.factor[1]:
            raise ValueError(f"factor must be two numbers >= 1, the smaller first, got {list(self.factor)}")
        if not 0 <= self.blur[0] <= self.blur[1]:
            raise ValueError(f"blur must be two numbers >= 0, the smaller first, got {list(self.blur)}")
        return self
