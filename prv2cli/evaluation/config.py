"""What `prv2 eval` is told: which data set, which model, and how figures are taken. No torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator, model_validator

from prv2cli.choices import Align, AlignSpace, CropName, Scene
from prv2cli.datasets.layouts import MeasuredData
from prv2cli.settings import PositiveInt, Settings, explain, read_settings_file


class Measuring(Settings):
    """How figures are taken: where, and what is done to a prediction first.

    Attributes:
        crop: part of the image. cap: truth strictly between these metres counts; predictions are clipped to them.
        align, align_space: see alignment.py.
        boundaries: the papers' boundary metrics, which need scikit-image. None = if that is installed.
        exact: as the authors' code has it where that is odd: borders of holes are edges, an image without edges has
            a SEE of 0, completeness has no limit.
    """

    crop: CropName = "none"
    cap: tuple[float, float] = (1e-3, 80.0)
    align: Align = "none"
    align_space: AlignSpace = "depth"
    boundaries: bool | None = None
    exact: bool = False

    @field_validator("cap")
    @classmethod
    def _cap_is_a_range(cls, cap: tuple[float, float]) -> tuple[float, float]:
        low, high = cap
        if not 0 <= low < high or not math.isfinite(high):
            raise ValueError("expected two depths in metres, the smaller first")
        return cap

    @model_validator(mode="after")
    def _a_space_is_for_alignment(self) -> Measuring:
        if self.align == "none" and self.align_space != "depth":
            raise ValueError("align_space (--align-space) does nothing without align: scale or scale-shift")
        return self


# What the papers do on each data set; what a configuration says itself wins.
USUAL: dict[str, dict[str, Any]] = {
    "unrealstereo4k": {"cap": (1e-3, 80.0)},
    "cityscapes": {"cap": (1e-3, 250.0)},
    "kitti": {"cap": (1e-3, 80.0), "crop": "garg"},
    "scannetpp": {"cap": (1e-3, 80.0)},
    "hypersim": {"cap": (1e-3, 80.0)},
    "middlebury": {"cap": (1e-3, 80.0)},
    "procedural": {"cap": (1e-3, 300.0)},
    "ibims": {"cap": (1e-3, 50.0)},
    "hammer": {"cap": (0.1, 6.0)},
    "sintel": {"cap": (1e-3, 70.0)},
    "spring": {"cap": (1e-3, 80.0)},
    "booster": {"cap": (1e-3, 80.0)},
    "eth3d": {"cap": (1e-3, 80.0)},
    "diode": {"cap": (1e-3, 80.0)},
    "synth4k": {"cap": (3.0, 150.0)},
}


def with_usual_measure(raw: Any) -> Any:
    """Settings that hold `data` and `measure`, not validated: what the second leaves out is as usual on the first."""
    if isinstance(raw, dict) and isinstance(raw.get("data"), dict):
        given = raw.get("measure", {})
        if isinstance(given, dict):
            return {**raw, "measure": {**USUAL.get(str(raw["data"].get("layout")), {}), **given}}
    return raw


class EvalConfig(Settings):
    """A whole evaluation: `prv2 eval --config FILE`.

    Attributes:
        data: which data set, and where (datasets/layouts.py).
        measure: how; what is left out is what the papers do on that data set.
        model, coarse, scene, revision, offline, device, precision, tile, overlap, mode, seed: as in `prv2 refine`.
        compare_coarse: coarse networks to measure one after another, each alone and refined, instead of `coarse`.
        limit: only so many images, from the start.
        consistency: measure the tile consistency error too: up to 49 more passes over parts of each photograph.
    """

    data: MeasuredData
    measure: Measuring = Measuring()
    model: str = "auto"
    coarse: str = "auto"
    compare_coarse: tuple[str, ...] = ()
    scene: Scene | None = None
    revision: str | None = None
    offline: bool = False
    device: str = "auto"
    precision: str = "auto"
    tile: str = "0"
    overlap: float | None = None
    mode: str | None = None
    seed: int = 0
    limit: PositiveInt | None = None
    consistency: bool = False

    @model_validator(mode="after")
    def _one_network_or_several(self) -> EvalConfig:
        if self.compare_coarse and self.coarse != "auto":
            raise ValueError(
                "compare_coarse (--compare-coarse) takes the place of coarse (--coarse); give one of them"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _usual_measure(cls, raw: Any) -> Any:
        return with_usual_measure(raw)


def load_eval_config(path: Path, changes: dict[str, Any] | None = None) -> EvalConfig:
    """Read eval.yaml; `changes` (flags) win over it: its keys, those of `measure` with a dot ("measure.crop").

    Raises ConfigError naming the file, the key and the value; nothing has run yet.
    """
    raw = read_settings_file(path)
    for key, value in (changes or {}).items():
        *group, leaf = key.split(".")
        target = raw.setdefault(group[0], {}) if group else raw
        if isinstance(target, dict):
            target[leaf] = value
    return validated(EvalConfig, raw, str(path))


def validated(model: type[Any], raw: dict[str, Any], where: str) -> Any:
    """`raw` as settings of the type `model`. Raises ConfigError."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise explain(error, where, raw) from error
