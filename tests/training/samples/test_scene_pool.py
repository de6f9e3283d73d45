"""The pool of scenes: made once, the same everywhere; or without end."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scene_runs import SCENES, STAGE_CONFIGS, overrides, scene_pool

from prv2cli.errors import (
    ConfigError,
    InputError,
)
from prv2cli.scenes.make import Style, make_scene
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.samples.scene_pool import ScenePool, _make_and_save
from prv2cli.training.samples.scenes import CoarseSamples


def test_scenes_are_made_once_and_the_same_everywhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    pool = scene_pool(tmp_path)
    lost = pool.path(2).read_bytes()
    pool.path(2).unlink()
    assert pool.missing() == [2]
    _make_and_save(pool._job(2))
    assert pool.path(2).read_bytes() == lost  # which another process had made
    monkeypatch.setattr("prv2cli.training.samples.scene_pool.ProcessPoolExecutor", None)
    pool.make(1)  # nothing is missing: nothing is started
    assert len(list(pool.folder.iterdir())) == SCENES  # and no partial file is left


def test_still_lifes_lie_beside_the_other_scenes(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    changes: dict[str, object] = {"data.scenes": 1, "data.still_lifes": 1}
    config = load_train_config(STAGE_CONFIGS["coarse"], overrides(tmp_path, **changes))
    assert isinstance(config.data, SceneDataConfig)
    pool = ScenePool(config.data)
    for index in range(2):
        pool.folder.mkdir(parents=True, exist_ok=True)
        _make_and_save(pool._job(index))
    assert not pool.missing()
    assert len(pool) == 2
    styles: tuple[Style, ...] = ("any", "still-life")
    for index, style in enumerate(styles):
        expected = make_scene((pool.config.seed, 0), 128, style=style)
        assert np.array_equal(pool.load(index)[1], expected.depth)


def test_endless_scenes_are_new_in_every_sample_and_leave_nothing_behind(tmp_path: Path) -> None:
    changes: dict[str, object] = {"data.endless": True, "data.scenes": 1, "data.still_lifes": 1}
    config = load_train_config(STAGE_CONFIGS["coarse"], overrides(tmp_path / "pool", **changes))
    assert isinstance(config.data, SceneDataConfig)
    samples = CoarseSamples(config.data, seed=3, length=4)
    depths = [samples[i]["depth"].numpy() for i in range(4)]
    assert len({depth.tobytes() for depth in depths}) == 4
    assert np.array_equal(samples[3]["depth"].numpy(), depths[3])  # whichever worker draws it
    styles: tuple[Style, ...] = ("any", "still-life", "any")
    for index, style in enumerate(styles):  # in the proportion of the two
        expected = make_scene((config.data.seed, index, 1), 128, style=style).depth
        assert np.array_equal(samples.pool.load(index)[1], expected)
    assert not (tmp_path / "pool").exists()
    with pytest.raises(ConfigError, match="endless scenes have none; give steps"):
        load_train_config(STAGE_CONFIGS["coarse"], overrides(tmp_path, **changes, steps="null", epochs=2.0))


def test_a_damaged_scene_is_named(cache: Path, tmp_path: Path) -> None:
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    pool = scene_pool(tmp_path)
    whole = pool.path(1).read_bytes()
    for damaged in (b"", whole[:1000], whole[:-40], b"a letter"):
        pool.path(1).write_bytes(damaged)
        with pytest.raises(InputError, match=r"000001\.npz: no scene can be read; delete it"):
            pool.load(1)
