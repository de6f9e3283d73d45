"""Procedural scenes to train on: a pool made once on disk, or a new scene for each sample."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from prv2cli.scenes.make import Style, make_scene
from prv2cli.training.config.scenes import SceneDataConfig

_Job = tuple[int, int, Style, int, str]  # seed, index, style, size, path


class ScenePool:
    """Scenes 0..count-1 of a seed, made on first use and kept as .npz files below `cache`.

    Endless: scenes 0, 1, ... without end, drawn when asked for; of each `len(pool)` in a row the first are of any kind,
    the others still lifes.
    """

    def __init__(self, config: SceneDataConfig) -> None:
        self.config = config
        self.folder = config.cache / f"size{config.size}-seed{config.seed}"

    def __len__(self) -> int:
        return self.config.scenes + self.config.still_lifes

    def path(self, index: int) -> Path:
        """Where a scene lies; those from `scenes` on are still lifes."""
        number = index - self.config.scenes
        return self.folder / (f"{index:06d}.npz" if number < 0 else f"still-{number:06d}.npz")

    def missing(self) -> list[int]:
        """Indices of the scenes that have not been made yet."""
        if self.config.endless:
            return []
        return [i for i in range(len(self)) if not self.path(i).exists()]

    def make(self, processes: int, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Make every missing scene. A killed run goes on where it stopped."""
        missing = self.missing()
        if not missing:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        jobs = [self._job(index) for index in missing]
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as executor:
            for done, _ in enumerate(executor.map(_make_and_save, jobs, chunksize=4), 1):
                progress(done, len(jobs))

    def _job(self, index: int) -> _Job:
        number = index - self.config.scenes
        style: Style = "any" if number < 0 else "still-life"
        return (
            self.config.seed,
            index if number < 0 else number,
            style,
            self.config.size,
            str(self.path(index)),
        )

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """rgb (H, W, 3) uint8 and depth (H, W) float32 metres of one scene."""
        if self.config.endless:
            return self._draw(index)
        with np.load(self.path(index)) as arrays:
            return arrays["rgb"], arrays["depth"]

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        style: Style = "any" if index % len(self) < self.config.scenes else "still-life"
        # A stream of its own: sample `index` of a run with the same seed draws from (seed, index).
        scene = make_scene((self.config.seed, index, 1), self.config.size, style=style)
        return scene.rgb, scene.depth

    def choose(self, sample: int, rng: np.random.Generator) -> int:
        """The index of the scene that a sample of a run is of."""
        return sample if self.config.endless else int(rng.integers(len(self)))


def _make_and_save(job: _Job) -> None:
    seed, index, style, size, path = job
    scene = make_scene((seed, index), size, style=style)
    partial = f"{path}.{os.getpid()}.tmp"
    with Path(partial).open("wb") as file:
        np.savez(file, rgb=scene.rgb, depth=scene.depth)
    Path(partial).replace(path)
