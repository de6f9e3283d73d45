"""The shipped configurations parse and build, and the recipes are the papers'."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scene_runs import STAGE_CONFIGS
from torch import nn

from prv2cli.checkpoints.model_file import read_config, without_downloads
from prv2cli.datasets.folder import FolderData
from prv2cli.hub import resolve as hub
from prv2cli.model.build import build_model
from prv2cli.model.config import AnyModelConfig, BundleConfig, LiteConfig, RefinerConfig
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.run import TrainConfig

CONFIGS = sorted((Path(__file__).parents[3] / "configs").rglob("*.yaml"))


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
    # How it is shown a photograph, and when it is believed, is said where it stands by itself.
    inputs = {"long_side": 0, "pixels": None, "mirrored": False, "trusted": 1}
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


def test_configurations_of_a_stage_are_of_its_kind() -> None:
    kinds = {"refine": RefinerConfig, "coarse": LiteConfig}
    for stage, path in STAGE_CONFIGS.items():
        assert isinstance(load_train_config(path).model, kinds[stage])
