"""Settings that are wrong, or do not fit together, are refused by their names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from training_runs import (
    settings,
    write_config,
)

from prv2cli.errors import (
    ConfigError,
)
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.run import TrainConfig

WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no length": ("refine", {"steps": None}, "steps or epochs"),
    "two lengths": ("refine", {"epochs": 3}, "steps or epochs"),
    "process size": (
        "refine",
        {"model": {"process_size": [30, 64]}},
        r"process_size \[30, 64\].*multiples of 32; \[32, 64\] would do",
    ),
    "tile": ("refine", {"sampling": {"tile": [65, 48]}}, r"tile \[65, 48\] does not fit into image"),
    "depths": ("refine", {"sampling": {"min_depth": 90}}, "min_depth must be below max_depth"),
    "no size": ("noisy-pretrain", {"sampling": {"image": None}}, r"sampling\.image: .*one size"),
    "no teacher": ("transfer", {}, "one of teacher and pseudo_labels"),
    "no detail": ("transfer", {"transfer": {"teacher": "x", "detail": []}}, r"transfer: detail is empty"),
    "unused losses": ("refine", {"transfer": {"weight": 1}}, "transfer: stage refine .* no use of it"),
    "unused degrader": ("refine", {"degrade": {"noise": 0.5}}, "degrade: stage refine .* no use of it"),
    "coarse rate": ("coarse", {"optimiser": {"coarse_lr": 0.1}}, r"optimiser\.coarse_lr: only a bundle"),
    "coarse weight decay": (
        "coarse",
        {"optimiser": {"coarse_weight_decay": 0.1}},
        r"optimiser\.coarse_weight_decay: only a bundle",
    ),
    "layout": ("refine", {"data": {"layout": "imagenet"}}, "data: .*'kitti'"),
    "key of a layout": (
        "refine",
        {"data": {"sufix": "_d"}},
        r"data\.sufix: no such setting; did you mean suffix",
    ),
    "no root": ("refine", {"data": {"root": None}}, r"data\.root"),
    "losses": ("refine", {"losses": {"silog": 0}}, "nothing would be learned"),
    "ranges": ("refine", {"augment": {"gamma": [1.2, 0.8]}}, "gamma must be two numbers"),
    "figure": (
        "refine",
        {"evaluation": {"data": {"layout": "procedural"}, "best": "rms"}},
        "no figure is called 'rms'; there are .*rmse",
    ),
    "type": ("refine", {"batch_size": 2.5}, r"batch_size.*integer.*\(got 2\.5\)"),
    "seed": ("refine", {"seed": -1}, "seed.*greater than or equal to 0"),
    "large seed": ("refine", {"seed": 2**63}, "seed.*less than"),
    "infinite rate": ("refine", {"optimiser": {"lr": math.inf}}, r"optimiser\.lr.*finite number \(got inf\)"),
    "infinite length": ("refine", {"steps": None, "epochs": math.inf}, "epochs.*finite"),
    "mode": (
        "refine",
        {"evaluation": {"data": {"layout": "procedural"}, "mode": "m7"}},
        "evaluation: mode m7: use m1, m2 or rN",
    ),
    "exact without its loss": ("refine", {"losses": {"exact": True}}, "exact is of gradient_matching"),
    "exact without its detail": (
        "transfer",
        {"transfer": {"teacher": "x", "exact": True}},
        "exact is of gradient-matching, which detail does not name",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_refused_by_its_name(case: str, tmp_path: Path) -> None:
    stage, changes, pattern = WRONG[case]
    path = write_config(tmp_path / "wrong.yaml", tmp_path, stage, **changes)
    with pytest.raises(ConfigError, match=pattern) as raised:
        load_train_config(path)
    message = str(raised.value)
    assert "\n" not in message
    assert ".folder" not in message


@pytest.mark.parametrize("layout", ["scenes", "procedural"])
def test_a_tile_must_fit_into_scenes_whose_size_is_known(layout: str) -> None:
    raw = settings(Path("x"), "refine") | {"data": {"layout": layout, "size": 256}}
    assert TrainConfig.model_validate(raw | {"sampling": {"tile": [96, 256]}}).sampling.image is None
    for tile in ([96, 257], [257, 96]):
        with pytest.raises(ValueError, match=r"sampling\.tile .* does not fit into scenes of data\.size 256"):
            TrainConfig.model_validate(raw | {"sampling": {"tile": tile}})
    assert TrainConfig.model_validate(raw | {"sampling": {"tile": [400, 400], "image": [512, 512]}})
