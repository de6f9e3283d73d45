"""Procedural scenes to train on: a pool made once on disk, or a new scene for each sample."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from prv2cli.errors import InputError
from prv2cli.files.atomic import atomic_write, remove_leftovers
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

    @property
    def identity(self) -> str:
        """Which scenes these are."""
        return f"{self.folder.name}, {self.config.scenes} and {self.config.still_lifes} still lifes"

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
        remove_leftovers(self.folder)
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
        """rgb (H, W, 3) uint8 and depth (H, W) float32 metres of one scene. Raises InputError: its file is damaged."""
        if self.config.endless:
            return self._draw(index)
        path = self.path(index)
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                return arrays["rgb"], arrays["depth"]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(f"{path}: no scene can be read; delete it, and it is made again") from error

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
    with atomic_write(Path(path)) as file:
        np.savez(file, rgb=scene.rgb, depth=scene.depth)
