"""Settings from files and key=value: what holds, and what is refused by its name before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from scene_runs import STAGE_CONFIGS
from training_runs import (
    write_config,
)

from prv2cli.errors import (
    ConfigError,
)
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.scenes import SceneDataConfig


def test_overrides_change_what_they_name() -> None:
    config = load_train_config(STAGE_CONFIGS["refine"], ["optimiser.lr=1e-4", "steps=7", "data.cache=a/b"])
    assert isinstance(config.data, SceneDataConfig)
    assert (config.optimiser.lr, config.steps, config.data.cache) == (1e-4, 7, Path("a/b"))
    untouched = load_train_config(STAGE_CONFIGS["refine"])
    assert config.optimiser.weight_decay == untouched.optimiser.weight_decay


WRONG_OVERRIDES = {
    "stepz=3": r"stepz: no such setting; did you mean steps .*\(got 3\)",
    "zzz=3": "zzz: no such setting; there are stage, model, .*picture_every",
    "optimiser.lrr=3": r"optimiser\.lrr: .*did you mean lr\?",
    "model.c2f.wide=3": r"model\.c2f\.wide: .*did you mean widths\?",
    "steps=many": "steps.*integer.*'many'",
    "steps=0": r"steps.*greater than 0.*\(got 0\)",
    "optimiser.lr=-1": r"optimiser\.lr.*greater than 0",
    "optimiser.ema=1": r"optimiser\.ema.*less than 1",
    "degrade.drop_thin=2": r"degrade\.drop_thin",
    "stage=everything": "stage.*'coarse'.*'transfer'.*'everything'",
    "stage=coarse": "stage: coarse trains a model of kind lite or dav2 or zoedepth, not refiner",
    "precision=fp8": "precision.*'fp32', 'bf16' or 'fp16'",
    "model.kind=huge": "model.*'refiner', 'lite'",
    "model.encoder.levels=2": r"coarse\.channels must match encoder\.levels: 3 levels",
    "model.encoder.space_to_depth=3": r"space_to_depth.*1, 2 or 4",
    "data.tile=1024": r"data\.tile \(1024\) is larger than data\.size",
    "data.tile=100": r"data\.tile must be a multiple of \d+, not 100",
    "data.scenes=": r"data\.scenes",
    "nonsense": "'nonsense' is not an override; write key=value",
    "=3": "not an override",
    "optimiser.lr=[1": r"optimiser\.lr=\[1.*not readable YAML",
    "steps=true": r"steps",
    "degrade.factor=[16, 4]": r"degrade.*factor must be two numbers",
    "steps.x=3": "steps is a value, not a group",
    "optimiser.momentum=[0.85, 1]": r"optimiser\.momentum.*less than 1",
    "maps.validation=3": r"maps\.validation.*multiple of 2",
}


@pytest.mark.parametrize("override", WRONG_OVERRIDES)
def test_a_wrong_override_is_refused_by_its_name(override: str) -> None:
    with pytest.raises(ConfigError, match=WRONG_OVERRIDES[override]) as raised:
        load_train_config(STAGE_CONFIGS["refine"], [override])
    assert "\n" not in str(raised.value)


WRONG_FILES = {
    "list": (b"- 1\n- 2\n", "expected settings.*found list"),
    "text": (b"just words", "expected settings.*found str"),
    "empty": (b"", "expected settings.*found NoneType"),
    "no YAML": (b"steps: [1\n", "not a readable YAML file"),
    "binary": (b"\xff\xfe\x00\x81", "not a readable YAML file"),
    "no stage": (b"steps: 1", "stage.*required"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_file_is_refused_by_its_name(case: str, tmp_path: Path) -> None:
    content, pattern = WRONG_FILES[case]
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"config\\.yaml: {pattern}") as raised:
        load_train_config(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config .*nowhere\.yaml: no such file"):
        load_train_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="not a readable YAML file"):
        load_train_config(tmp_path)


def test_a_base_says_what_a_file_leaves_out(tmp_path: Path) -> None:
    write_config(tmp_path / "below.yaml", tmp_path, "refine", seed=5)
    above = {"base": "below.yaml", "steps": 9, "optimiser": {"clip": 2.0}, "data": {"layout": "scenes"}}
    (tmp_path / "above.yaml").write_text(yaml.safe_dump(above))
    below = load_train_config(tmp_path / "below.yaml")
    config = load_train_config(tmp_path / "above.yaml", ["batch_size=3"])
    assert (config.seed, config.steps, config.batch_size) == (5, 9, 3)
    assert config.optimiser == below.optimiser.model_copy(update={"clip": 2.0})
    assert config.data.layout == "scenes"  # another layout takes nothing from the one below
    (tmp_path / "loop.yaml").write_text("base: loop.yaml")
    with pytest.raises(ConfigError, match="more than 8 files"):
        load_train_config(tmp_path / "loop.yaml")
    (tmp_path / "lost.yaml").write_text("base: nowhere.yaml")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_train_config(tmp_path / "lost.yaml")


def test_the_usual_layout_by_its_name_keeps_what_the_base_says(tmp_path: Path) -> None:
    recipe = STAGE_CONFIGS["refine"].read_text("utf-8")
    base = {**yaml.safe_load(recipe), "data": {"scenes": 7, "seed": 5}, "base": str(STAGE_CONFIGS["refine"])}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "data": {"layout": "scenes"}}))
    data = load_train_config(tmp_path / "run.yaml").data
    assert isinstance(data, SceneDataConfig)
    assert (data.scenes, data.seed) == (7, 5)
