"""Samples of procedural scenes: shapes and ranges, edges in place, tiles for the pass at half size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scene_runs import STAGE_CONFIGS, overrides
from training_loop import first_batch

from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.samples.scene_pool import ScenePool
from prv2cli.training.samples.scenes import RefineSamples


@pytest.mark.parametrize("stage", STAGE_CONFIGS)
def test_samples_are_what_they_are_said_to_be(stage: str, cache: Path) -> None:
    config = load_train_config(STAGE_CONFIGS[stage], overrides(cache))
    assert isinstance(config.data, SceneDataConfig)
    batch = first_batch(config)
    assert all(torch.isfinite(tensor).all() for tensor in batch.values())
    assert batch["rgb"].min() >= 0
    assert batch["rgb"].max() <= 1
    tiles = 2 * (config.data.tiles_per_scene if stage == "refine" else 1)
    assert batch["rgb"].shape == (tiles, 3, 128, 128)
    if stage == "coarse":
        assert batch["depth"].shape == (2, 1, 128, 128)
        assert batch["depth"].min() > 0
        return
    assert batch["truth"].shape == batch["coarse"].shape == (tiles, 1, 128, 128)
    assert len(batch["guide_rgb"]) == len(batch["guide_depth"]) == 2
    assert batch["box"].min() >= 0
    assert batch["box"].max() <= 1
    assert (batch["spread_ratio"] > 0).all()


def test_tiles_with_wide_edges_are_marked_for_the_pass_at_half_size(cache: Path) -> None:
    sharp, blurred = (
        load_train_config(
            STAGE_CONFIGS["refine"],
            overrides(cache, **{"degrade.factor": factor, "degrade.blur": "[1.6, 1.6]"}),
        )
        for factor in ("[2, 2]", "[20, 20]")
    )
    for config, wide in ((sharp, False), (blurred, True)):
        assert isinstance(config.data, SceneDataConfig)
        sample = RefineSamples(config.data, config.degrade, 1, 4, 1)[0]
        assert sample["wide"].tolist() == [wide] * config.data.tiles_per_scene


@pytest.mark.parametrize("size", [96, 128, 171])
def test_a_resized_scene_keeps_its_edges_in_place(size: int, tmp_path: Path) -> None:
    """Colour is interpolated and depth is not: where the colour is half way, the depth must change."""
    config = load_train_config(STAGE_CONFIGS["refine"], overrides(tmp_path, **{"data.scenes": 1}))
    assert isinstance(config.data, SceneDataConfig)
    pool = ScenePool(config.data)
    near = np.add.outer(np.arange(128), np.arange(128)) < 120  # cut slanting, so that every phase occurs
    rgb = np.where(near[..., None], 200, 40).astype(np.uint8).repeat(3, axis=-1)
    pool.folder.mkdir(parents=True)
    np.savez(pool.path(0), rgb=rgb, depth=np.where(near, 1, 4).astype(np.float32))
    samples = RefineSamples(config.data, config.degrade, 1, 1, 1)
    colour, depth = samples._scene(0, np.random.default_rng(0), size)
    brighter, nearer = (colour[..., 0] > 120).sum(1), (depth < 2).sum(1)
    assert abs((brighter - nearer.astype(float)).mean()) < 0.35
