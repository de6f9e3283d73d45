"""Settings of models. No torch.

Widths and channels are listed from high to low resolution. Level 0 is the resolution the refiner works at (the
tile after space-to-depth), level k has 2^k times its stride.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from prv2cli.settings import PositiveInt, Settings, explain

LITE_STRIDE = 32  # px, of lite's last level
MOST_STRETCHED = 4  # times its long side that lite may be shown a strip at
BlockIndex = Annotated[int, Field(ge=0, le=39, strict=True)]
Count = Annotated[int, Field(ge=0, le=16, strict=True)]
FiveLevels = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt]
FiveCounts = tuple[Count, Count, Count, Count, Count]


class EncoderConfig(Settings):
    """The light refiner encoder (docs/method.md 2.2): any timm `features_only` model."""

    name: str = "mobilenetv4_conv_small"
    levels: PositiveInt = 5
    space_to_depth: Literal[1, 2, 4] = 1
    pretrained: bool = False


class C2FConfig(Settings):
    """Coarse-to-Fine module (PRV2 section 3.2). The defaults are the authors'.

    enabled: without it the encoder's features, projected to `widths`, go to F2C as they are; an ablation.
    """

    enabled: bool = True
    widths: tuple[PositiveInt, ...] = (32, 256, 256, 256, 256, 256)
    guidance: Literal["gated", "fused", "none"] = "gated"
    taps: Literal["below", "own"] = "below"
    pixel_level: bool = False


class F2CConfig(Settings):
    """Fine-to-Coarse module (docs/method.md 2.4). The defaults are the authors'."""

    widths: tuple[PositiveInt, ...] = (32, 64, 64, 128, 256, 512)
    decoder_widths: tuple[PositiveInt, ...] = (32, 64, 128, 256, 512)
    decoder_hidden: Literal["input", "output"] = "input"


class HeadConfig(Settings):
    """What turns the fused features into the tile's depth.

    dilations: of residual convolutions at stride 2, which look along an edge.
    """

    kind: Literal["residual", "two-surface"] = "residual"
    width: PositiveInt = 32
    dilations: tuple[PositiveInt, ...] = ()


class CoarseFeaturesConfig(Settings):
    """The coarse branch as the refiner sees it: how many feature maps, how wide, and who makes them.

    `given`: a small guide encoder over the down-sampled photograph and any coarse depth map.
    `external`: a depth network's own features are handed in (a bundle trained with that network).
    character: whether the guide encoder is told how sharp and how noisy the coarse map is (character.py).
    """

    kind: Literal["given", "external"] = "given"
    channels: tuple[PositiveInt, ...] = (16, 24, 32, 32, 32)
    guide_stride: PositiveInt = 4
    guide_max_side: PositiveInt = 768
    character: bool = False


# What is done outside of the network, and its values where nothing is.
WITHOUT = {
    "denoise": False,
    "back_projection": 0,
    "shock_filter": 0,
    "weighted_median": False,
    "own_range": False,
}


class RefinerConfig(Settings):
    """A whole refiner: encoder, C2F, F2C, head, and the depth space it works in.

    denoise: whether noise in the coarse map is taken out before (restoration/noise/); the authors do not.
    back_projection: how many times the result is blurred, compared with the coarse map and corrected
    (restoration/back_projection.py); 0, as the authors have it, leaves it as the network gave it.
    shock_filter: how many times the edges of the result are steepened (restoration/edges/shock_filter.py); 0 is the
    authors'.
    weighted_median: whether its edges are laid along the photograph's (restoration/edges/weighted_median.py); the
    authors do not.
    own_range: whether the result stays within the values that the map has around, behind one that was only blurred on
    the far side (restoration/own_range.py); the authors do not.
    """

    kind: Literal["refiner"] = "refiner"
    depth_space: Literal["metres", "normalised-log"] = "normalised-log"
    coarse: CoarseFeaturesConfig = CoarseFeaturesConfig()
    encoder: EncoderConfig = EncoderConfig()
    c2f: C2FConfig = C2FConfig()
    f2c: F2CConfig = F2CConfig()
    head: HeadConfig = HeadConfig()
    align_corners: bool = False
    denoise: bool = False
    back_projection: Annotated[int, Field(ge=0, le=100, strict=True)] = 0
    shock_filter: Annotated[int, Field(ge=0, le=100, strict=True)] = 0
    weighted_median: bool = False
    own_range: bool = False

    @model_validator(mode="after")
    def _same_number_of_levels(self) -> RefinerConfig:
        levels = self.encoder.levels + 1
        for key, got in {
            "coarse.channels": len(self.coarse.channels),
            "c2f.widths": len(self.c2f.widths),
            "f2c.widths": len(self.f2c.widths),
            "f2c.decoder_widths": len(self.f2c.decoder_widths) + 1,
        }.items():
            if got != levels:
                raise ValueError(f"{key} must match encoder.levels: {levels} levels in all, got {got}")
        if self.depth_space == "metres" and self.head.kind != "residual":
            raise ValueError("head.kind: two-surface works in depth_space: normalised-log only")
        for key in WITHOUT:
            if self.depth_space == "metres" and getattr(self, key):
                raise ValueError(f"{key} works in depth_space: normalised-log only")
        return self

    @property
    def tile_multiple(self) -> int:
        """Tiles must be a multiple of this many pixels on each side."""
        return self.encoder.space_to_depth * 2**self.encoder.levels


class LiteConfig(Settings):
    """`lite`: a small monocular coarse network of our own.

    long_side: px, at which a photograph is shown to it. pixels: about how many instead, whatever its aspect (no strip).
    mirrored: whether its depth is the mean with the mirrored one of the mirrored photograph, for twice the time.
    doubt: whether it says how far its metres may be off.
    trusted: the largest doubt, in natural log of depth, with which its depth is called metres; without `doubt` it
        always is.
    """

    kind: Literal["lite"] = "lite"
    encoder: str = "mobilenetv4_conv_small"
    width: PositiveInt = 64
    long_side: PositiveInt = 512
    pixels: PositiveInt | None = None
    mirrored: bool = False
    min_depth: Annotated[float, Field(gt=0)] = 0.1
    max_depth: Annotated[float, Field(gt=0)] = 200.0
    doubt: bool = False
    trusted: Annotated[float, Field(gt=0)] = 0.35

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns at which a photograph is shown to it: its aspect kept, both multiples of LITE_STRIDE."""
        scale = self.long_side / max(height, width)
        if self.pixels is not None:
            scale = min(math.sqrt(self.pixels / (height * width)), MOST_STRETCHED * scale)
        rows, columns = (max(1, round(side * scale / LITE_STRIDE)) * LITE_STRIDE for side in (height, width))
        return rows, columns


class Dav2Config(Settings):
    """Depth Anything V2, metric (docs/method.md 2.1): which of its sizes, and the range it was trained for."""

    kind: Literal["dav2"] = "dav2"
    encoder: Literal["vits", "vitb", "vitl"] = "vits"
    max_depth: Annotated[float, Field(gt=0)] = 20.0
    input_size: Annotated[PositiveInt, Field(multiple_of=14)] = 518


class Moge2Config(Settings):
    """MoGe-2: what tells its published networks apart. Levels are listed from low to high resolution.

    taps: the blocks of DINOv2 that are read. neck_units, head_units: residual units of each level.
    remap: the last activation of the points. tokens: fewest and most patches that it was trained for.
    """

    kind: Literal["moge2"] = "moge2"
    encoder: Literal["vits", "vitb", "vitl"] = "vits"
    taps: tuple[BlockIndex, ...] = (5, 11)
    widths: FiveLevels = (384, 256, 128, 64, 32)
    neck_units: FiveCounts = (0, 1, 1, 1, 0)
    head_units: FiveCounts = (0, 1, 1, 1, 0)
    normals: bool = True
    remap: Literal["exp", "sinh_exp", "sinh", "linear"] = "exp"
    tokens: tuple[PositiveInt, PositiveInt] = (1200, 3600)

    @model_validator(mode="after")
    def _fits(self) -> Moge2Config:
        last = 23 if self.encoder == "vitl" else 11
        if list(self.taps) != sorted(set(self.taps)) or not self.taps or self.taps[-1] > last:
            raise ValueError(f"taps must rise, and {self.encoder} has the blocks 0 to {last}")
        if self.tokens[0] > self.tokens[1]:
            raise ValueError("tokens: the fewest come first")
        return self


class Da3Config(Settings):
    """Depth Anything 3, monocular: metric, or up to scale and offset; the shapes are the same."""

    kind: Literal["da3"] = "da3"
    encoder: Literal["vits", "vitb", "vitl"] = "vitl"
    metric: bool = False
    input_size: Annotated[PositiveInt, Field(multiple_of=14)] = 504


class ZoeDepthConfig(Settings):
    """ZoeDepth as transformers builds it (extra `transformers`); the settings are its own config.json."""

    kind: Literal["zoedepth"] = "zoedepth"
    transformers: dict[str, Any]
    input_size: tuple[PositiveInt, PositiveInt] = (384, 512)


AnyCoarseConfig = LiteConfig | Dav2Config | Moge2Config | Da3Config | ZoeDepthConfig
CoarseConfig = Annotated[AnyCoarseConfig, Field(discriminator="kind")]


class BundleConfig(Settings):
    """A coarse network and the refiner that was trained on its features: one file, one model.

    process_size: (height, width) at which both networks run in the authors' tiling, e.g. 448 x 448 with DAv2.
    """

    kind: Literal["bundle"] = "bundle"
    coarse: CoarseConfig
    refiner: RefinerConfig
    process_size: tuple[PositiveInt, PositiveInt]

    @model_validator(mode="after")
    def _refiner_takes_features(self) -> BundleConfig:
        if isinstance(self.coarse, Da3Config):
            raise ValueError(
                "coarse.kind: da3 gives metres only with a focal length, which a bundle does not have"
            )
        if self.refiner.coarse.kind != "external":
            raise ValueError(
                "refiner.coarse.kind must be external: a bundle's refiner takes its network's features"
            )
        return self


AnyModelConfig = RefinerConfig | AnyCoarseConfig | BundleConfig
ModelConfig = Annotated[AnyModelConfig, Field(discriminator="kind")]


class _AnyModel(Settings):
    model: ModelConfig


def parse_model_config(raw: Any, where: str) -> AnyModelConfig:
    """Validate a model's configuration, e.g. one read from a checkpoint header. Raises ConfigError."""
    try:
        return _AnyModel.model_validate({"model": raw}).model
    except ValidationError as error:
        raise explain(error, where) from error
