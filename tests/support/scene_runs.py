"""Small runs on procedural scenes by the shipped configurations of the stages that need nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from prv2cli.cli import app
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.samples.scene_pool import ScenePool

CONFIGS = Path(__file__).parents[2] / "configs"
STAGE_CONFIGS = {
    "refine": Path(__file__).parents[1] / "data" / "refiner_on_scenes.yaml",
    "coarse": Path(__file__).parents[1] / "data" / "coarse_on_scenes.yaml",
}
SCENES = 4


def overrides(cache: Path, **changes: object) -> list[str]:
    """What makes a shipped configuration small; `changes` by key."""
    settings = {
        "steps": 3,
        "batch_size": 2,
        "log_every": 1,
        "save_every": 2,
        "device": "cpu",
        "data.cache": cache,
        "data.scenes": SCENES,
        "data.still_lifes": 0,
        "data.seed": 1,
        "data.size": 128,
        "data.tile": 128,
        "data.workers": 0,
    }
    return [f"{key}={value}" for key, value in {**settings, **changes}.items()]


def scene_pool(folder: Path) -> ScenePool:
    """The pool of these runs below `folder`."""
    data = load_train_config(STAGE_CONFIGS["coarse"], overrides(folder)).data
    assert isinstance(data, SceneDataConfig)
    return ScenePool(data)


def train_on_scenes(stage: str, out: Path, cache: Path, *flags: str, **changes: object) -> int:
    """A run by the command line; its exit code."""
    config = str(STAGE_CONFIGS[stage])
    return app._run(
        ["train", "--config", config, "-o", str(out), "-q", *flags, *overrides(cache, **changes)], False
    )


def full_log(folder: Path) -> list[dict[str, float]]:
    """log.jsonl with the seconds."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
