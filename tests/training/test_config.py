"""Configurations of training: the shipped ones parse and build, wrong ones are refused by name before anything runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from training_runs import settings, write_config, write_photographs

from prv2cli.checkpoints.model_file import read_config, without_downloads
from prv2cli.cli import app
from prv2cli.datasets.folder import FolderData
from prv2cli.errors import ConfigError, UsageError
from prv2cli.hub import resolve as hub
from prv2cli.model.build import build_model
from prv2cli.model.config import AnyModelConfig, BundleConfig
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.distributed import World
from prv2cli.training.optimise import parameter_groups
from prv2cli.training.trainer import resolve

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
RECIPES = [path for path in CONFIGS if path.parent.name == "paper"]
_built: dict[str, nn.Module] = {}


def built(config: AnyModelConfig) -> nn.Module:
    """A network without memory or weights; each one is built once."""
    config = without_downloads(config)
    key = config.model_dump_json()
    if key not in _built:
        with torch.device("meta"):
            _built[key] = build_model(config)
    return _built[key]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_parses_and_builds(path: Path) -> None:
    config = load_train_config(path)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    if "zoedepth" in config.model.model_dump_json():
        pytest.importorskip("transformers")
    if isinstance(config.model, BundleConfig):
        coarse, refiner = built(config.model.coarse), built(config.model.refiner)
        assert tuple(coarse.channels) == config.model.refiner.coarse.channels  # type: ignore[arg-type]
        assert sum(p.numel() for p in refiner.parameters()) > 1e6
    else:
        assert sum(p.numel() for p in built(config.model).parameters()) > 1e6


def test_what_starts_from_the_shipped_coarse_network_is_of_its_architecture() -> None:
    shipped = read_config(hub.resolve("lite").path)
    configs = {path.stem: load_train_config(path) for path in CONFIGS}
    started = {name: config.model for name, config in configs.items() if config.coarse_from == "lite"}
    assert {"bundle-s", "own-folder", "coarse"} <= started.keys()
    inputs = {"long_side": 0}  # what it is shown is the run's to say
    for name, model in started.items():
        coarse = model.coarse if isinstance(model, BundleConfig) else model
        assert coarse.model_copy(update=inputs) == shipped.model_copy(update=inputs), name


def test_configurations_for_ones_own_folder_know_the_unit_of_its_depth() -> None:
    """docs/training.md writes .npy files, which do not say that they are in metres."""
    data = {path.stem: load_train_config(path).data for path in CONFIGS}
    own = {
        name: one
        for name, one in data.items()
        if isinstance(one, FolderData) and one.root == Path("data/own")
    }
    assert {name: one.scale for name, one in own.items()} == {"own-folder": 1, "bundle-s-transfer": 1}


def test_the_recipes_are_the_papers() -> None:
    """Encoders, coarse networks, data sets and stages; one schedule; starts that another file makes."""
    configs = {path.stem: load_train_config(path) for path in RECIPES}
    bundles = [config.model for config in configs.values() if isinstance(config.model, BundleConfig)]
    assert {model.refiner.encoder.name for model in bundles} == {
        "mobilenetv4_conv_small.e2400_r224_in1k",
        "tf_efficientnet_b5.ap_in1k",
        "convnext_large",
    }
    assert {(model.coarse.kind, model.process_size) for model in bundles} == {
        ("zoedepth", (384, 512)),
        ("dav2", (448, 448)),
    }
    layouts = {config.data.layout for config in configs.values()}
    assert layouts == {"unrealstereo4k", "cityscapes", "kitti", "scannetpp"}
    assert {config.stage for config in configs.values()} == {"coarse", "noisy-pretrain", "refine", "transfer"}
    for name, config in configs.items():
        for start in (config.start_from, config.coarse_from, config.transfer.teacher):
            if start is not None and str(start).startswith("runs/"):
                assert Path(start).parts[1] in configs, name


def test_the_end_to_end_recipe_is_the_papers() -> None:
    zoe = load_train_config(RECIPES[0].parent / "refine-u4k-zoedepth-convnext-large.yaml")
    dav2 = load_train_config(RECIPES[0].parent / "refine-u4k-dav2-convnext-large.yaml")
    pretrain = load_train_config(RECIPES[0].parent / "pretrain-u4k-dav2-convnext-large.yaml")
    transfer = load_train_config(RECIPES[0].parent / "transfer-cityscapes-zoedepth-efficientnet-b5.yaml")
    optimiser = zoe.optimiser
    assert (optimiser.lr, optimiser.weight_decay, optimiser.clip) == (1.2e-4, 0.01, 35)
    assert (optimiser.encoder_lr, optimiser.coarse_lr) == pytest.approx((1.2e-5, 1.2e-5))
    assert dav2.optimiser.coarse_lr == pytest.approx(1.2e-4 / 30)
    assert (optimiser.schedule, optimiser.warmup, optimiser.div, optimiser.final_div) == (
        "one-cycle",
        0.3,
        2,
        100,
    )
    assert optimiser.momentum == (0.85, 0.95)
    assert (zoe.epochs, pretrain.epochs, transfer.epochs) == (48, 96, 3)
    assert (zoe.batch_size, zoe.sampling.tile, zoe.sampling.image) == (4, (540, 960), (2160, 3840))
    assert (transfer.transfer.detail, transfer.transfer.weight) == (("ssigm",), 0.5)


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
    assert "\n" not in message and ".folder" not in message  # no tag of a union in the key


@pytest.mark.parametrize("layout", ["scenes", "procedural"])
def test_a_tile_must_fit_into_scenes_whose_size_is_known(layout: str) -> None:
    raw = settings(Path("x"), "refine") | {"data": {"layout": layout, "size": 256}}
    assert TrainConfig.model_validate(raw | {"sampling": {"tile": [96, 256]}}).sampling.image is None
    for tile in ([96, 257], [257, 96]):
        with pytest.raises(ValueError, match=r"sampling\.tile .* does not fit into scenes of data\.size 256"):
            TrainConfig.model_validate(raw | {"sampling": {"tile": tile}})
    assert TrainConfig.model_validate(raw | {"sampling": {"tile": [400, 400], "image": [512, 512]}})


def test_what_is_not_there_is_told_before_anything_runs(tmp_path: Path, capsys: Any) -> None:
    data = write_photographs(tmp_path / "data", count=1)
    missing = str(tmp_path / "nowhere")
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("refine", {"data": {"root": missing}}, "data.root"),
        ("refine", {"start_from": missing}, "start_from"),
        ("refine", {"coarse_from": missing}, "nowhere"),
        ("transfer", {"transfer": {"teacher": missing}}, "nowhere"),
        ("transfer", {"transfer": {"pseudo_labels": missing}}, "transfer.pseudo_labels"),
        (
            "refine",
            {"evaluation": {"data": {"layout": "folder", "root": missing}}},
            "data.root",
        ),
    ]
    for stage, changes, named in cases:
        path = write_config(tmp_path / "run.yaml", data, stage, **changes)
        assert app._run(["train", "--config", str(path), "-o", str(tmp_path / "run"), "-q"], False) != 0
        error = capsys.readouterr().err
        assert named in error and missing in error and error.count("\n") <= 2, error
        assert not (tmp_path / "run" / "log.jsonl").exists()


def test_epochs_become_steps(tmp_path: Path) -> None:
    data = write_photographs(tmp_path, count=5)
    raw = settings(data, "refine", steps=None, epochs=4, batch_size=2, accumulate=2)
    config = TrainConfig.model_validate(raw)
    assert resolve(config, World()).steps == 5  # 20 samples, 4 a step
    assert resolve(config, World(0, 2)).steps == 3
    with pytest.raises(UsageError, match=r"data\.root"):
        resolve(TrainConfig.model_validate(settings(tmp_path / "lost", "refine")), World())


def test_parameters_have_the_rates_of_their_parts() -> None:
    optimiser = {
        "lr": 1.0,
        "encoder_lr": 0.1,
        "coarse_lr": 0.01,
        "coarse_weight_decay": 0.5,
        "weight_decay": 0.2,
    }
    config = TrainConfig.model_validate(settings(Path("x"), "refine", optimiser=optimiser))
    model = build_model(config.model)
    groups = {group.lr: group for group in parameter_groups(model, config.optimiser)}
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    names = {lr: {named[id(p)] for p in group.parameters} for lr, group in groups.items()}
    assert names[0.01] == {name for name in named.values() if name.startswith("coarse.")}
    assert names[0.1] == {name for name in named.values() if name.startswith("refiner.encoder.network.")}
    assert names[1.0] == set(named.values()) - names[0.01] - names[0.1]
    assert (groups[0.01].weight_decay, groups[1.0].weight_decay) == (0.5, 0.2)
    frozen = TrainConfig.model_validate(settings(Path("x"), "refine", optimiser={"coarse_lr": 0}))
    assert len(parameter_groups(model, frozen.optimiser)) == 1
    assert not any(p.requires_grad for p in model.coarse.parameters())  # type: ignore[union-attr]
