"""All settings of a run, and what follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from prv2cli.model.config import (
    BundleConfig,
    Dav2Config,
    LiteConfig,
    ModelConfig,
    Moge2Config,
    RefinerConfig,
    ZoeDepthConfig,
)
from prv2cli.settings import PositiveInt, Settings, Size
from prv2cli.training.config.checks import (
    check_blurred,
    check_bundle,
    check_coarse_input,
    check_held_out,
    check_kind,
    check_labels,
    check_mixture,
    check_refiner,
    check_tile_of_photographs,
    check_tile_of_scenes,
)
from prv2cli.training.config.evaluation import EvaluationConfig
from prv2cli.training.config.losses import LossConfig, RefineStageConfig, TransferConfig
from prv2cli.training.config.mixture import MixtureData
from prv2cli.training.config.optimiser import OptimiserConfig
from prv2cli.training.config.samples import AugmentConfig, DegradeConfig, SamplingConfig
from prv2cli.training.config.scenes import BlurredConfig, MapsConfig, SceneDataConfig, TrainData

Stage = Literal["coarse", "noisy-pretrain", "refine", "transfer"]


class TrainConfig(Settings):
    """One training run.

    Attributes:
        steps, epochs: how long; one of the two. A step is one change of the weights.
        blurred: of a refiner behind any coarse map: a run before this one, for its second set of weights; this one
            starts from them, where `start_from` names none.
        batch_size: samples at a time in each process. accumulate: of them in a row for one step.
        start_from: a model file to start from: of this very model, or of a part of a bundle.
        encoder_from: pretrained weights of lite's encoder: a file with timm's names, or with those of the package
            efficientnet_lite_pytorch.
        coarse_from: weights of the coarse network: a file, a registered name or org/name; instead of those that a
            bundle in `start_from` has.
        batchnorm: statistics of each process by itself; of all together (CUDA only); or frozen as they are.
        half: the file of the model holds its matrices as 16-bit numbers; training itself does not change.
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
    maps: MapsConfig = MapsConfig()
    blurred: BlurredConfig | None = None
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
    encoder_from: Path | None = None
    coarse_from: str | None = None
    half: bool = False
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
        if self.steps is None and self.on_mixture:
            raise ValueError("epochs: the sets of a mixture have none in common; give steps")
        self._check_model()
        self._check_unused()
        if self.on_spoilt_scenes or self.stage == "coarse":
            check_tile_of_scenes(self.data, self.model)
        elif self.on_tiles:
            check_tile_of_photographs(self.sampling, self.data)
        if self.stage == "transfer":
            check_labels(self.transfer)
        return self

    def _check_model(self) -> None:
        check_kind(self.stage, self.model)
        if isinstance(self.model, BundleConfig):
            check_bundle(self.model)
        elif isinstance(self.model, RefinerConfig):
            check_refiner(self.model, self.data)
            check_held_out(self.model, self.data, self.maps.validation)
            check_blurred(self.model, self.blurred)
        elif self.on_mixture:
            check_mixture(self.stage, self.model)
        elif not self.on_scenes_alone:
            check_coarse_input(self.model, self.process_size)
        own_sizes = self.on_tiles or self.on_scenes_alone or self.on_mixture
        if not (own_sizes or self.sampling.image):
            raise ValueError(
                f"sampling.image: stage {self.stage} takes whole photographs of one size; give its rows and columns"
            )

    def _check_unused(self) -> None:
        """A group of settings that this run would not look at is a mistake."""
        images = {"sampling", "augment", "losses"}
        unused = {"degrade", "maps", "blurred", "refine"} if not self.on_spoilt_scenes else set()
        if self.on_scenes_alone or self.on_mixture:
            unused |= images
        if self.stage != "transfer":
            unused.add("transfer")
        for key in sorted(unused):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: stage {self.stage} of this model and data makes no use of it")
        if self.encoder_from is not None and self.model.kind != "lite":
            raise ValueError("encoder_from: only a model of kind lite takes the weights of an encoder")
        if self.coarse_from is not None and self.model.kind != "bundle" and self.stage != "coarse":
            raise ValueError("coarse_from: this model has no coarse network")
        for key in ("coarse_lr", "coarse_weight_decay"):
            if getattr(self.optimiser, key) is not None and self.model.kind != "bundle":
                raise ValueError(f"optimiser.{key}: only a bundle has a coarse network of its own")
        if self.evaluation is not None and self.maps.validation:
            raise ValueError("evaluation: maps.validation chooses the best model already; set it to 0")

    @property
    def on_spoilt_scenes(self) -> bool:
        """Whether this trains a refiner behind any coarse map."""
        return self.stage == "refine" and isinstance(self.model, RefinerConfig)

    @property
    def on_scenes_alone(self) -> bool:
        """Whether samples are made by samples/scenes.py: those with exact depth everywhere."""
        lite = self.stage == "coarse" and self.model.kind == "lite"
        return isinstance(self.data, SceneDataConfig) and (self.on_spoilt_scenes or lite)

    @property
    def on_mixture(self) -> bool:
        """Whether samples come from a mixture of sets with depth of several kinds (samples/mixture.py)."""
        return isinstance(self.data, MixtureData)

    @property
    def chooses_best(self) -> bool:
        """Whether the model is measured on the way, and the best one kept."""
        return self.evaluation is not None or self.maps.validation > 0

    @property
    def tells_character(self) -> bool:
        """Whether the refiner that is trained is told what its coarse map is like."""
        return isinstance(self.model, RefinerConfig) and self.model.coarse.character

    @property
    def total_steps(self) -> int:
        """Steps of the run; where epochs are given, only once the data set is known (training.run.resolve)."""
        assert self.steps is not None
        return self.steps

    @property
    def steps_in_all(self) -> int:
        """Steps of the one run, or of both (`blurred`)."""
        return self.total_steps + (0 if self.blurred is None else self.blurred.steps or self.total_steps)

    @property
    def on_tiles(self) -> bool:
        """Whether samples are tiles of photographs, not whole photographs."""
        return self.stage in ("refine", "transfer")

    @property
    def workers(self) -> int:
        """Processes that make samples."""
        if isinstance(self.data, SceneDataConfig | MixtureData):
            return self.data.workers
        return self.sampling.workers

    @property
    def has_unused_weights(self) -> bool:
        """Whether a loss may leave weights without a gradient.

        Each photograph uses one of ZoeDepth's heads, no loss looks at MoGe-2's normals and validity, and lite's doubt
        learns on mixtures alone.
        """
        coarse = self.model.coarse if isinstance(self.model, BundleConfig) else self.model
        doubts = isinstance(coarse, LiteConfig) and coarse.doubt and not self.on_mixture
        return doubts or isinstance(coarse, ZoeDepthConfig | Moge2Config)

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
        return self.model.input_size(*(self.sampling.image or self.sampling.tile))

    @property
    def averages_photographs(self) -> bool:
        """Whether whole photographs are brought to the process size by area averages, as lite gets them in use."""
        coarse = self.model.coarse if isinstance(self.model, BundleConfig) else self.model
        return isinstance(coarse, LiteConfig) and self.stage != "noisy-pretrain"
