"""Settings of procedural training scenes, of the coarse maps that go with them, and of any data to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prv2cli.datasets.layouts import AnyData
from prv2cli.settings import PositiveInt, Probability, Settings
from prv2cli.training.config.mixture import MixtureData
from prv2cli.training.config.samples import DegradeConfig

HELD_OUT_SEED = 76  # of the scenes on which the best model is chosen


class SceneDataConfig(Settings):
    """Procedural training scenes: made once, kept in `cache`; `scenes` of any kind, and so many still lifes.

    endless: nothing is kept; every sample is of a scene of its own, drawn by the `workers` (a quarter of a second of a
        core each). `scenes` and `still_lifes` are then the proportion of the two.
    """

    layout: Literal["scenes"] = "scenes"
    scenes: PositiveInt = 2400
    still_lifes: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=64)] = 384
    seed: Annotated[int, Field(ge=0)] = 1
    endless: bool = False
    cache: Path = Path("runs/scenes")
    tile: Annotated[int, Field(ge=64)] = 256
    tiles_per_scene: PositiveInt = 2
    workers: Annotated[int, Field(ge=0)] = 1


Imitation = Literal["unet", "pyramid", "smooth", "lite"]


class ImitatorsConfig(Settings):
    """The networks that make network-like maps (imitators/): trained once for so many steps, kept in `cache`.

    kinds: `lite` is the coarse network that comes with the program and is not trained here.
    """

    kinds: tuple[Imitation, ...] = ("unet", "pyramid", "smooth")
    cache: Path = Path("runs/imitators")
    steps: PositiveInt = 400
    seed: Annotated[int, Field(ge=0)] = 3

    @model_validator(mode="after")
    def _there_is_one(self) -> ImitatorsConfig:
        if not self.kinds:
            raise ValueError("kinds is empty; name unet, pyramid, smooth or lite")
        return self


class MapsConfig(Settings):
    """What the coarse maps of a training run are.

    spoilt, faulty, imitated, sensor, sharp: the shares of truth that is blurred and spoilt by formulas (`degrade`), of
        truth with the faults of depth networks, of maps of the imitators, of sensor models, and of maps that are nearly
        right at nearly full size.
    inverse: share of samples in affine inverse depth, the others in log-depth; of maps that are made as inverse depth
        (of networks, of disparity) three quarters, unless it is 0.
    eight_bits, jpeg: shares of maps stored as pictures, and of those as JPEG.
    denoise: noise is taken out before (restoration/noise/), as in use.
    own_levels: the truth is brought to the coarse map's own level of every surface, so that nothing is asked for
        but what lies at edges.
    validation: scenes on whose maps, of the imitator that training never sees, the best model is chosen; 0: none is.
    """

    spoilt: Probability = 1.0
    faulty: Probability = 0.0
    imitated: Probability = 0.0
    sensor: Probability = 0.0
    sharp: Probability = 0.0
    inverse: Probability = 0.0
    eight_bits: Probability = 0.0
    jpeg: Probability = 0.0
    denoise: bool = False
    own_levels: bool = False
    validation: Annotated[int, Field(ge=0, multiple_of=2)] = 0
    imitators: ImitatorsConfig = ImitatorsConfig()

    @model_validator(mode="after")
    def _shares_are_shares(self) -> MapsConfig:
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(
                f"spoilt, faulty, imitated, sensor and sharp must add up to 1, not {sum(self.shares):g}"
            )
        return self

    @property
    def shares(self) -> tuple[float, float, float, float, float]:
        return (self.spoilt, self.faulty, self.imitated, self.sensor, self.sharp)


class BlurredConfig(Settings):
    """A second set of weights in the same file, for maps that were blurred and nothing else (training/both.py).

    steps: of its run; None: as many as the other one's.
    degrade: what its maps are, all of them; noise in them stays, and the truth is asked for as it is.
    steeper: how much steeper than in training it chooses between the two surfaces at an edge, in use: fewer points fly
        between them, and where it errs it errs by more.
    """

    steps: PositiveInt | None = None
    degrade: DegradeConfig = DegradeConfig()
    steeper: Annotated[float, Field(ge=1, le=4)] = 1.0


TrainData = Annotated[SceneDataConfig | MixtureData | AnyData, Field(discriminator="layout")]
