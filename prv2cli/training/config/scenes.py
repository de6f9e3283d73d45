"""Settings of procedural training scenes, and of any data that a run trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from prv2cli.datasets.layouts import AnyData
from prv2cli.settings import PositiveInt, Settings
from prv2cli.training.config.mixture import MixtureData


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


TrainData = Annotated[SceneDataConfig | MixtureData | AnyData, Field(discriminator="layout")]
