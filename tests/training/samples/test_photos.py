"""Samples of photographs: tiles with their truth, epochs, scenes in the place of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene_runs import CONFIGS
from training_loop import configured
from training_runs import (
    PHOTOGRAPHS,
    PROCESS,
    SIZE,
)

from prv2cli.errors import (
    InputError,
)
from prv2cli.model.config import LiteConfig
from prv2cli.resampling.area import shrink
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.samples.photos import PhotoSamples, PooledScenes


def test_samples_are_tiles_of_photographs_with_their_truth(data: Path) -> None:
    plain = {"flip": 0, "rotate": 0, "colour": 0}
    config = configured(data, "refine", augment=plain)
    sample = PhotoSamples(config, 10)[3]
    assert sample["image"].shape == sample["rgb"].shape == (1, 3, *PROCESS)
    assert sample["truth"].shape == (1, 1, *config.sampling.tile)
    left, top, right, bottom = (
        (sample["box"][0] * torch.tensor([SIZE[1], SIZE[0]] * 2)).round().int().tolist()
    )
    assert (bottom - top, right - left) == config.sampling.tile
    found = [np.load(path)[top:bottom, left:right] for path in sorted((data / "depth").iterdir())]
    assert any(np.array_equal(depth, sample["truth"][0, 0]) for depth in found)


def test_a_whole_photograph_is_shown_to_lite_as_in_use(data: Path) -> None:
    """Averaged over areas, at the size that its settings give it."""
    plain = {"flip": 0, "rotate": 0, "colour": 0}
    config = configured(data, "coarse", augment=plain, model={"pixels": 2048})
    assert isinstance(config.model, LiteConfig)
    image = PhotoSamples(config, 10)[3]["image"]
    photographs = [
        np.asarray(Image.open(path).convert("RGB")) for path in sorted((data / "images").iterdir())
    ]
    expected = [shrink(rgb, config.model.input_size(*rgb.shape[:2])) for rgb in photographs]
    assert image.shape[-2:] == (32, 64)
    assert any(torch.allclose(image, one, atol=1e-6) for one in expected)


def test_an_epoch_takes_every_photograph_once(data: Path) -> None:
    config = configured(data, "coarse", augment={"flip": 0, "rotate": 0, "colour": 0})
    samples = PhotoSamples(config, 2 * PHOTOGRAPHS)
    epochs = [
        [float(samples[k + e * PHOTOGRAPHS]["image"].sum()) for k in range(PHOTOGRAPHS)] for e in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) == PHOTOGRAPHS
    assert epochs[0] != epochs[1]


def test_a_photograph_smaller_than_a_tile_is_left_out(data: Path) -> None:
    config = configured(data, "refine", sampling={"image": None, "tile": [65, 48], "workers": 0})
    with pytest.raises(
        InputError, match=r"64 rows x 96 columns cannot hold a tile of sampling\.tile \[65, 48\]"
    ):
        PhotoSamples(config, 1)[0]


def test_still_lifes_of_a_pool_are_photographs_of_a_bundle_too(tmp_path: Path) -> None:
    data = SceneDataConfig(scenes=2, still_lifes=3, cache=tmp_path)
    assert PooledScenes(data).names == tuple(f"1-{index:06d}" for index in range(5))


def test_endless_scenes_for_a_bundle_never_come_twice(tmp_path: Path) -> None:
    changes = ["data={endless: true, scenes: 2, size: 64, tile: 64}", "data.cache=" + str(tmp_path / "pool")]
    config = load_train_config(CONFIGS / "own-folder.yaml", [*changes, "sampling.tile=[64, 64]"])
    samples = PhotoSamples(config, 6)
    truths = {samples[i]["truth"].numpy().tobytes() for i in range(6)}
    assert len(truths) == 6
    assert not (tmp_path / "pool").exists()
