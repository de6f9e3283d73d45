"""Data sets by the name of their layout: `data: {layout: kitti, root: ...}` in a configuration file -> a DataSet.

open_data(config)   unrealstereo4k | cityscapes | kitti | scannetpp | hypersim | middlebury | folder | manifest |
                    procedural | ibims | hammer | sintel | spring | booster | eth3d | diode | synth4k
                    and for `prv2 eval` alone, as they have no depth: am2k | p3m
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from prv2cli.datasets.benchmarks.booster import Booster, BoosterData
from prv2cli.datasets.benchmarks.diode import Diode, DiodeData
from prv2cli.datasets.benchmarks.eth3d import Eth3d, Eth3dData
from prv2cli.datasets.benchmarks.hammer import Hammer, HammerData
from prv2cli.datasets.benchmarks.ibims import IBims, IBimsData
from prv2cli.datasets.benchmarks.mattes import AM2KData, Mattes, P3MData
from prv2cli.datasets.benchmarks.sintel import Sintel, SintelData
from prv2cli.datasets.benchmarks.spring import Spring, SpringData
from prv2cli.datasets.benchmarks.synth4k import Synth4K, Synth4KData
from prv2cli.datasets.folder import Folder, FolderData, Manifest, ManifestData
from prv2cli.datasets.papers.cityscapes import Cityscapes, CityscapesData
from prv2cli.datasets.papers.hypersim import Hypersim, HypersimData
from prv2cli.datasets.papers.kitti import Kitti, KittiData
from prv2cli.datasets.papers.middlebury import Middlebury, MiddleburyData
from prv2cli.datasets.papers.scannetpp import ScanNetPP, ScanNetPPData
from prv2cli.datasets.papers.unrealstereo4k import UnrealStereo4K, UnrealStereo4KData
from prv2cli.datasets.samples import DataSet, ListedData, Sample
from prv2cli.settings import PositiveInt, Settings

__all__ = ["DataConfig", "DataSet", "MeasuredData", "Procedural", "ProceduralData", "Sample", "open_data"]


class ProceduralData(Settings):
    """Scenes 0..scenes-1 of a seed (scenes/make.py), drawn when asked for. Needs OpenCV (extra `train`)."""

    layout: Literal["procedural"] = "procedural"
    scenes: PositiveInt = 20
    size: Annotated[int, Field(ge=64)] = 1024
    seed: Annotated[int, Field(ge=0)] = 0


class Procedural(ListedData[int]):
    """Scenes drawn on the spot: exact depth everywhere. Another seed than in training makes other scenes."""

    def __init__(self, config: ProceduralData) -> None:
        from prv2cli.extras import import_opencv

        import_opencv()  # a missing extra is said before anything runs
        self._config = config
        super().__init__([(f"{config.seed}-{i:06d}", i) for i in range(config.scenes)], "no scenes")

    def _load(self, name: str, entry: int) -> Sample:
        from prv2cli.scenes.make import make_scene

        scene = make_scene((self._config.seed, entry), self._config.size)
        return Sample(name, scene.rgb, np.asarray(scene.depth, np.float32))


AnyData = (
    UnrealStereo4KData
    | CityscapesData
    | KittiData
    | ScanNetPPData
    | HypersimData
    | MiddleburyData
    | FolderData
    | ManifestData
    | ProceduralData
    | IBimsData
    | HammerData
    | SintelData
    | SpringData
    | BoosterData
    | Eth3dData
    | DiodeData
    | Synth4KData
)
AnyMattes = AM2KData | P3MData
DataConfig = Annotated[AnyData, Field(discriminator="layout")]
MeasuredData = Annotated[AnyData | AnyMattes, Field(discriminator="layout")]

_LAYOUTS: dict[type[Settings], Callable[[Any], DataSet]] = {
    UnrealStereo4KData: UnrealStereo4K,
    CityscapesData: Cityscapes,
    KittiData: Kitti,
    ScanNetPPData: ScanNetPP,
    HypersimData: Hypersim,
    MiddleburyData: Middlebury,
    FolderData: Folder,
    ManifestData: Manifest,
    ProceduralData: Procedural,
    IBimsData: IBims,
    HammerData: Hammer,
    SintelData: Sintel,
    SpringData: Spring,
    BoosterData: Booster,
    Eth3dData: Eth3d,
    DiodeData: Diode,
    Synth4KData: Synth4K,
    AM2KData: Mattes,
    P3MData: Mattes,
}


def open_data(config: AnyData | AnyMattes) -> DataSet:
    """The data set of a configuration, its samples listed and none of them read.

    Raises UsageError for a root or a split that is not there, InputError where nothing is found or a list is wrong,
    MissingExtraError.
    """
    return _LAYOUTS[type(config)](config)
