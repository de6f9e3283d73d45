"""Settings of a training run (`prv2 train --config FILE`): validated before anything runs. No torch.

stage            trains                      on                                     (METHOD 3)
coarse           a coarse network            whole photographs
noisy-pretrain   a bundle's refiner          whole photographs, noise for guidance
refine           a bundle, or a refiner      random tiles
                 behind any coarse map       procedural scenes and spoilt coarse maps
transfer         a bundle                    random tiles with sparse truth and pseudo-labels
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from prv2cli.datasets.layouts import AnyData, DataConfig, ProceduralData
from prv2cli.errors import ConfigError, UsageError
from prv2cli.evaluation.config import Measuring, with_usual_measure
from prv2cli.evaluation.report import METRICS
from prv2cli.files.text import shown
from prv2cli.model.config import (
    BundleConfig,
    Dav2Config,
    LiteConfig,
    ModelConfig,
    RefinerConfig,
    ZoeDepthConfig,
)
from prv2cli.settings import PositiveInt, Probability, Settings, explain, read_settings_file
from prv2cli.tiling.plan import parse_mode

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Size = tuple[PositiveInt, PositiveInt]  # rows, columns
Range = tuple[float, float]
Stage = Literal["coarse", "noisy-pretrain", "refine", "transfer"]
Detail = Literal["ranking", "ssi", "ssigm", "ssigm-local", "gradient-matching"]

DAV2_PATCH, COARSE_STRIDE = 14, 32  # what the sides of a coarse network's input must be multiples of
MAX_BASES = 8  # configuration files on top of each other


class SceneDataConfig(Settings):
    """Procedural training scenes: made once, kept in `cache`; `scenes` of any kind, and so many still lifes.

    endless: nothing is kept; every sample is of a scene of its own, drawn by the `workers` (a quarter of a second of a
        core each). `scenes` and `still_lifes` are then the proportion of the two.
    """

    layout: Literal["scenes"] = "scenes"
    scenes: PositiveInt = 2400
    still_lifes: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=64)] = 384
    seed: int = 1
    endless: bool = False
    cache: Path = Path("runs/scenes")
    tile: Annotated[int, Field(ge=64)] = 256
    tiles_per_scene: PositiveInt = 2
    workers: Annotated[int, Field(ge=0)] = 1


TrainData = Annotated[SceneDataConfig | AnyData, Field(discriminator="layout")]


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


class RefineStageConfig(Settings):
    """The course of the training of a refiner behind any coarse map, in shares of the run.

    smooth_until: the loss is Huber's before and L1 after; a start from trained weights needs no smooth phase.
    cascade_from: from then on a part of the tiles has been through the passes at reduced size (inference.py).
    hard_weight: how much more a pixel counts where the coarse map is wrong.
    drift_weight: of the error of local means (losses.drift_loss).
    edge_weight: of the error near edges as a share of their height (losses.edge_loss).
    """

    smooth_until: Probability = 0.25
    cascade_from: Probability = 0.5
    hard_weight: Annotated[float, Field(ge=0)] = 8.0
    drift_weight: Annotated[float, Field(ge=0)] = 0.0
    edge_weight: Annotated[float, Field(ge=0)] = 0.0


class LossConfig(Settings):
    """Weights of the losses against the truth, for every stage of a coarse network or a bundle (losses.py).

    over: SILog over each image, then their mean; or over all pixels of a batch at once, as the authors do: then
        several processes are not the same as one with a larger batch.
    exact: gradient matching as in the authors' code, vertical only.
    """

    silog: NonNegative = 1.0
    gradient_matching: NonNegative = 0.0
    over: Literal["image", "batch"] = "image"
    exact: bool = False

    @model_validator(mode="after")
    def _something_is_asked_for(self) -> LossConfig:
        if self.silog == self.gradient_matching == 0:
            raise ValueError(
                "silog and gradient_matching are both 0: nothing would be learned from the truth"
            )
        if self.exact and self.gradient_matching == 0:
            raise ValueError(
                "exact is of gradient_matching, which is 0: give that a weight, or leave exact out"
            )
        return self


class TransferConfig(Settings):
    """The detail half of the synthetic-to-real transfer (DSD, METHOD 3).

    teacher: a bundle trained on synthetic data (a file, a registered name or org/name), frozen, whose depth of each
        tile is the pseudo-label; or pseudo_labels: a folder of depth files named as the samples of the data set, with
        `suffix` at their ends, `scale` numbers per metre where they do not say.
    detail: one or more losses against the pseudo-label, added up; weight: of their sum.
    window: px, of ssigm-local. anchors: edge pixels per tile, and unit: metres that make one, of ranking.
    exact: gradient matching as in the authors' code, vertical only.
    """

    teacher: str | None = None
    pseudo_labels: Path | None = None
    suffix: str = ""
    scale: Positive | None = None
    detail: tuple[Detail, ...] = ("ssigm",)
    weight: NonNegative = 0.5
    window: PositiveInt = 64
    anchors: PositiveInt = 10_000
    unit: Positive = 1.0
    exact: bool = False

    @model_validator(mode="after")
    def _there_is_a_loss(self) -> TransferConfig:
        if not self.detail:
            raise ValueError("detail is empty; name ranking, ssi, ssigm, ssigm-local or gradient-matching")
        if self.exact and "gradient-matching" not in self.detail:
            raise ValueError(
                "exact is of gradient-matching, which detail does not name (the authors' ssigm counts both axes, too)"
            )
        return self


class OptimiserConfig(Settings):
    """AdamW, its schedule, and the mean of the weights.

    lr: of everything that has no rate of its own. encoder_lr: of the pretrained encoder, coarse_lr: of a bundle's
        coarse network; None: lr; 0: frozen, BatchNorm's statistics included.
    schedule: cosine: a linear warm-up and a cosine decay to 1/1000; one-cycle: from lr / div up to lr and down to
        lr / div / final_div, beta1 the other way between the two of `momentum`. warmup: share of the run.
    clip: largest norm of the gradient. ema: decay of the mean that is saved; 0 saves the weights themselves.
    """

    lr: Positive = 2.5e-3
    encoder_lr: NonNegative | None = None
    coarse_lr: NonNegative | None = None
    weight_decay: NonNegative = 1e-4
    coarse_weight_decay: NonNegative | None = None
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    warmup: Probability = 0.04
    div: Annotated[float, Field(ge=1)] = 2.0
    final_div: Annotated[float, Field(ge=1)] = 100.0
    momentum: tuple[Probability, Probability] = (0.85, 0.95)
    clip: Positive = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999


class EvaluationConfig(Settings):
    """Measuring during the run: every so many steps and at its end, on a data set, as `prv2 eval` does.

    measure: left out: what the papers do on that data set. mode: the paper's tilings, as in `prv2 refine`.
    coarse: the coarse network of a refiner that has none. best: the figure by which best.safetensors is chosen.
    """

    data: DataConfig
    every: PositiveInt = 1000
    limit: PositiveInt | None = 20
    measure: Measuring = Measuring()
    mode: str | None = None
    coarse: str = "lite"
    best: str = "rmse"

    @model_validator(mode="before")
    @classmethod
    def _usual_measure(cls, raw: Any) -> Any:
        return with_usual_measure(raw)

    @model_validator(mode="after")
    def _best_is_a_figure(self) -> EvaluationConfig:
        ranked = [name for name, metric in METRICS.items() if metric.better]
        if self.best not in ranked:
            raise ValueError(f"best: no figure is called {self.best!r}; there are {', '.join(ranked)}")
        return self

    @model_validator(mode="after")
    def _mode_is_a_tiling(self) -> EvaluationConfig:
        try:
            parse_mode(self.mode)
        except UsageError as error:
            raise ValueError(str(error).removeprefix("--")) from error
        return self


class TrainConfig(Settings):
    """One training run.

    Attributes:
        steps, epochs: how long; one of the two. A step is one change of the weights.
        batch_size: samples at a time in each process. accumulate: of them in a row for one step.
        start_from: a model file to start from: of this very model, or of a part of a bundle.
        coarse_from: weights of the coarse network: a file, a registered name or org/name; instead of those that a
            bundle in `start_from` has.
        batchnorm: statistics of each process by itself; of all together (CUDA only); or frozen as they are.
        picture_every: steps between two pictures in TensorBoard.
    """

    stage: Stage
    model: ModelConfig
    steps: PositiveInt | None = None
    epochs: Annotated[float, Field(gt=0, le=1e9)] | None = None
    batch_size: PositiveInt = 4
    accumulate: PositiveInt = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1  # what torch takes
    data: TrainData = SceneDataConfig()
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    degrade: DegradeConfig = DegradeConfig()
    refine: RefineStageConfig = RefineStageConfig()
    losses: LossConfig = LossConfig()
    transfer: TransferConfig = TransferConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    evaluation: EvaluationConfig | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batchnorm: Literal["per-process", "synchronised", "frozen"] = "per-process"
    channels_last: bool = True
    compile: bool = False
    device: str = "auto"
    start_from: Path | None = None
    coarse_from: str | None = None
    save_every: PositiveInt = 250
    log_every: PositiveInt = 50
    tensorboard: bool = False
    picture_every: PositiveInt = 500

    @model_validator(mode="before")
    @classmethod
    def _scenes_unless_said(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("data"), dict) and "layout" not in raw["data"]:
            return {**raw, "data": {**raw["data"], "layout": "scenes"}}
        return raw

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("steps or epochs: give one of the two")
        if self.steps is None and isinstance(self.data, SceneDataConfig) and self.data.endless:
            raise ValueError("epochs: endless scenes have none; give steps")
        self._check_model()
        self._check_unused()
        if self.on_spoilt_scenes or self.stage == "coarse":
            self._check_scene_tile()
        elif self.on_tiles:
            self._check_tile_of_scenes()
        if self.stage == "transfer":
            given = [self.transfer.teacher, self.transfer.pseudo_labels]
            if sum(value is not None for value in given) != 1:
                raise ValueError("transfer: give one of teacher and pseudo_labels")
        return self

    @property
    def on_spoilt_scenes(self) -> bool:
        """Whether this trains a refiner behind any coarse map."""
        return self.stage == "refine" and isinstance(self.model, RefinerConfig)

    @property
    def on_scenes_alone(self) -> bool:
        """Whether samples are made by data/procedural.py: those with exact depth everywhere."""
        lite = self.stage == "coarse" and self.model.kind == "lite"
        return isinstance(self.data, SceneDataConfig) and (self.on_spoilt_scenes or lite)

    @property
    def total_steps(self) -> int:
        """Steps of the run; where epochs are given, only once the data set is known (training.run.resolve)."""
        assert self.steps is not None
        return self.steps

    @property
    def on_tiles(self) -> bool:
        """Whether samples are tiles of photographs, not whole photographs."""
        return self.stage in ("refine", "transfer")

    @property
    def workers(self) -> int:
        """Processes that make samples."""
        return self.data.workers if isinstance(self.data, SceneDataConfig) else self.sampling.workers

    @property
    def has_zoedepth(self) -> bool:
        """Whether a ZoeDepth is part of it: each photograph uses one of its heads, and some weights are never used."""
        coarse = self.model.coarse if isinstance(self.model, BundleConfig) else self.model
        return isinstance(coarse, ZoeDepthConfig)

    @property
    def process_size(self) -> Size:
        """Rows and columns at which the networks see photographs and tiles."""
        if isinstance(self.model, BundleConfig):
            return self.model.process_size
        if isinstance(self.model, Dav2Config):
            return (self.model.input_size, self.model.input_size)
        if isinstance(self.model, ZoeDepthConfig):
            return self.model.input_size
        assert isinstance(self.model, LiteConfig)
        sides = self.sampling.image or self.sampling.tile
        scale = self.model.long_side / max(sides)
        rows, columns = (max(1, round(side * scale / COARSE_STRIDE)) * COARSE_STRIDE for side in sides)
        return rows, columns

    def _check_model(self) -> None:
        wanted = {
            "coarse": ("lite", "dav2", "zoedepth"),
            "noisy-pretrain": ("bundle",),
            "refine": ("refiner", "bundle"),
            "transfer": ("bundle",),
        }[self.stage]
        if self.model.kind not in wanted:
            kinds = " or ".join(wanted)
            raise ValueError(f"stage: {self.stage} trains a model of kind {kinds}, not {self.model.kind}")
        if isinstance(self.model, BundleConfig):
            self._check_bundle(self.model)
        elif isinstance(self.model, RefinerConfig):
            if self.model.coarse.kind != "given":
                raise ValueError(
                    "model.coarse.kind: external takes a coarse network's features: train it in a model of kind bundle"
                )
            if not isinstance(self.data, SceneDataConfig):
                raise ValueError(
                    f"data.layout: a refiner behind any coarse map is trained on scenes, not on {self.data.layout}"
                )
        elif not self.on_scenes_alone:
            self._check_multiple("model.input_size", self.process_size, self._coarse_multiple(self.model))
        if not (self.on_tiles or self.on_scenes_alone or self.sampling.image):
            raise ValueError(
                f"sampling.image: stage {self.stage} takes whole photographs of one size; give its rows and columns"
            )

    def _check_bundle(self, model: BundleConfig) -> None:
        if model.refiner.depth_space != "metres":
            raise ValueError("model.refiner.depth_space: a bundle is trained in metres")
        multiple = math.lcm(self._coarse_multiple(model.coarse), model.refiner.tile_multiple)
        self._check_multiple("model.process_size", model.process_size, multiple)

    @staticmethod
    def _coarse_multiple(coarse: Any) -> int:
        return DAV2_PATCH if isinstance(coarse, Dav2Config) else COARSE_STRIDE

    @staticmethod
    def _check_multiple(key: str, size: Size, multiple: int) -> None:
        if any(side % multiple for side in size):
            near = [max(multiple, round(side / multiple) * multiple) for side in size]
            raise ValueError(
                f"{key} {list(size)}: both sides must be multiples of {multiple}; {near} would do"
            )

    def _check_unused(self) -> None:
        """A group of settings that this run would not look at is a mistake."""
        images = {"sampling", "augment", "losses"}
        unused = {"degrade", "refine"} if not self.on_spoilt_scenes else set()
        if self.on_scenes_alone:
            unused |= images
        if self.stage != "transfer":
            unused.add("transfer")
        for key in sorted(unused):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: stage {self.stage} of this model and data makes no use of it")
        if self.coarse_from is not None and self.model.kind != "bundle" and self.stage != "coarse":
            raise ValueError("coarse_from: this model has no coarse network")
        if self.optimiser.coarse_lr is not None and self.model.kind != "bundle":
            raise ValueError("optimiser.coarse_lr: only a bundle has a coarse network of its own")

    def _check_tile_of_scenes(self) -> None:
        """The size of a data set is known beforehand where it is ours to make."""
        if self.sampling.image or not isinstance(self.data, SceneDataConfig | ProceduralData):
            return
        if max(self.sampling.tile) > self.data.size:
            tile, side = list(self.sampling.tile), self.data.size
            raise ValueError(f"sampling.tile {tile} does not fit into scenes of data.size {side}; lower it")

    def _check_scene_tile(self) -> None:
        if not isinstance(self.data, SceneDataConfig):
            return
        if self.data.tile > self.data.size:
            raise ValueError(f"data.tile ({self.data.tile}) is larger than data.size ({self.data.size})")
        if isinstance(self.model, RefinerConfig):
            multiple = 2 * self.model.tile_multiple  # the pass at half size needs one too
            if self.data.tile % multiple:
                raise ValueError(f"data.tile must be a multiple of {multiple}, not {self.data.tile}")


def load_train_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, apply `key.sub=value` overrides, validate.

    `base: other.yaml` in it names a file beside it, whose settings hold where it says nothing.

    Raises:
        ConfigError: the file is missing or no YAML, or a key or value is wrong; nothing has run yet.
    """
    raw = _read_with_bases(path)
    for override in overrides:
        _apply_override(raw, override)
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        raise explain(error, shown(path), raw) from error


def _read_with_bases(path: Path) -> dict[str, Any]:
    raw, last = read_settings_file(path), path
    for _ in range(MAX_BASES):
        if (base := raw.pop("base", None)) is None:
            return raw
        if not isinstance(base, str):
            raise ConfigError(f"--config {shown(last)}: base: name a file beside it (got {base!r})")
        last = last.parent / base
        raw = _merged(read_settings_file(last), raw)
    raise ConfigError(f"--config {shown(path)}: base: more than {MAX_BASES} files on top of each other")


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`: groups of settings key by key, unless they choose another kind or layout."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not _another_kind(old, value):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _another_kind(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return any(tag in new and new[tag] != old.get(tag) for tag in ("kind", "layout"))


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"{override!r} is not an override; write key=value, e.g. optimiser.lr=0.001")
    *parents, leaf = key.split(".")
    group = raw
    for name in parents:
        group = group.setdefault(name, {})
        if not isinstance(group, dict):
            raise ConfigError(f"{override!r}: {name} is a value, not a group of settings")
    try:
        group[leaf] = yaml.safe_load(text)
    except Exception as error:  # as in read_settings_file
        raise ConfigError(
            f"{override!r}: the value is not readable YAML (a bracket or quote left open?)"
        ) from error
