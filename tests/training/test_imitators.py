"""The imitators: trained once, kept young and grown, loaded as they were; the model measured behind the unseen one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scene_runs import STAGE_CONFIGS, overrides, scene_pool

from prv2cli.errors import ConfigError
from prv2cli.model.build import build_model
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.scenes import ImitatorsConfig
from prv2cli.training.evaluate import make_evaluator
from prv2cli.training.imitators import imitate
from prv2cli.training.imitators.fit import prepare_imitators
from prv2cli.training.imitators.networks import ARCHITECTURES
from prv2cli.training.samples.scene_pool import ScenePool

SMALL = {"unet": 4, "pyramid": 8, "smooth": 8, "patches": 16}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ImitatorsConfig:
    """Recipes that take a second."""
    recipes = {
        name: recipe._replace(width=SMALL[recipe.architecture], sizes=(64,))
        for name, recipe in imitate.RECIPES.items()
    }
    unseen = imitate.UNSEEN._replace(width=16, sizes=(64,))
    for module in ("imitate", "fit"):
        monkeypatch.setattr(f"prv2cli.training.imitators.{module}.RECIPES", recipes)
        monkeypatch.setattr(f"prv2cli.training.imitators.{module}.UNSEEN", unseen)
    monkeypatch.setattr("prv2cli.training.unseen.UNSEEN", unseen)
    return ImitatorsConfig(kinds=("unet", "smooth"), cache=tmp_path / "imitators", steps=4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_map_of_the_inputs_size(name: str) -> None:
    network = ARCHITECTURES[name](SMALL[name]).eval()
    for size in ((64, 64), (96, 128)):
        assert network(torch.zeros(2, 4, *size)).shape == (2, 1, *size)


def test_they_are_trained_once_and_loaded_as_they_were(small: ImitatorsConfig, cache: Path) -> None:
    told: list[int] = []
    prepare_imitators(small, scene_pool(cache), lambda done, total: told.append(done))
    assert told == [1, 2, 3, 4] * 3  # two and the unseen one
    prepare_imitators(small, scene_pool(cache), lambda done, total: told.append(done))
    assert len(told) == 12
    known = imitate.load_imitators(small)
    assert len(known) == 4
    rgb, depth = torch.rand(1, 3, 96, 96), 1 + torch.rand(1, 1, 96, 96)
    maps = [one.predict(rgb, depth, 64, 32.0) for one in known]
    assert all(one.shape == (1, 1, 64, 64) and torch.isfinite(one).all() for one in maps)
    assert not torch.equal(maps[0], maps[1])  # the young one and the grown one
    assert torch.equal(maps[0], imitate.load_imitators(small)[0].predict(rgb, depth, 64, 32.0))


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_short_ones_are_there_young_and_grown(small: ImitatorsConfig, cache: Path, steps: int) -> None:
    short = small.model_copy(update={"steps": steps, "kinds": ("unet",)})
    prepare_imitators(short, scene_pool(cache), lambda done, total: None)
    assert len(imitate.load_imitators(short)) == 2


def test_those_of_other_scenes_are_refused(small: ImitatorsConfig, cache: Path) -> None:
    few = ScenePool(scene_pool(cache).config.model_copy(update={"scenes": 2}))
    prepare_imitators(small, few, lambda done, total: None, for_training=False)
    with pytest.raises(
        ConfigError, match=r"maps\.imitators\.cache: .*unseen-seed3-4.*2 and 0 still lifes, not .*, 4"
    ):
        prepare_imitators(small, scene_pool(cache), lambda done, total: None)


def test_the_shipped_coarse_network_is_one_without_training(small: ImitatorsConfig) -> None:
    known = imitate.load_imitators(small.model_copy(update={"kinds": ("lite",)}))
    found = known[0].predict(torch.rand(1, 3, 96, 96), torch.ones(1, 1, 96, 96), 64, 32.0)
    assert found.shape == (1, 1, 64, 64)
    assert known[0].space == "log"


def test_the_model_is_measured_behind_the_unseen_network(small: ImitatorsConfig, cache: Path) -> None:
    prepare_imitators(small, scene_pool(cache), lambda done, total: None, for_training=False)
    keys = {"maps.imitators.cache": small.cache, "maps.imitators.steps": 4, "maps.validation": 2}
    config = load_train_config(STAGE_CONFIGS["refine"], overrides(cache, **keys))
    evaluator = make_evaluator(config, config.model, torch.device("cpu"), lambda line: None)
    assert evaluator is not None
    assert [step for step in range(1, 4) if evaluator.due(step)] == [2, 3]
    model = build_model(config.model)
    head = model.head.to_surfaces  # type: ignore[union-attr]
    torch.nn.init.zeros_(head.weight)  # type: ignore[union-attr, arg-type]
    report = evaluator.measure(model)
    assert model.training
    means = report.to_json()["means"]
    # A head without weights leaves the map alone, and its score is that of a map as bad as before.
    assert means["refined"]["edge_abs_rel"] == pytest.approx(means["coarse"]["edge_abs_rel"], rel=1e-3)
    assert evaluator.score(report) == pytest.approx(1.0, abs=0.02)
    assert all(math.isfinite(value) for row in means.values() for value in row.values())
