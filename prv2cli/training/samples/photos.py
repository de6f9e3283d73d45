"""Training samples from photographs with their truth: any data set of datasets/layouts.py, or the pool of scenes.

Sample i depends on the seed and i alone: an epoch is one permutation of the data set, and whatever is drawn for a
sample comes from a generator of its own. So any number of workers, processes and interruptions gives one stream.

    photograph, truth ─ augment ─ resize to `sampling.image` ─┬─ whole, at the process size         -> image
                                                              └─ random tile ─ at the process size  -> rgb, truth, box
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from prv2cli.datasets.folder import files_by_stem
from prv2cli.datasets.layouts import open_data
from prv2cli.datasets.samples import DataSet, check_root
from prv2cli.datasets.samples import Sample as Photograph
from prv2cli.depth_files.decode import READ_SUFFIXES
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError, UsageError
from prv2cli.model.layers import resize
from prv2cli.resampling.area import shrink
from prv2cli.resampling.maps import nearest
from prv2cli.training.config.mixture import MixtureData
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.samples.augment import augment
from prv2cli.training.samples.collate import BROKEN, Sample, first_usable
from prv2cli.training.samples.scene_pool import ScenePool

MAX_DRAWS = 5  # tiles, in search of one with truth


class PooledScenes:
    """The pool of procedural scenes as a data set; an endless one takes any index."""

    def __init__(self, config: SceneDataConfig) -> None:
        self._pool = ScenePool(config)
        self.names: Sequence[str] = tuple(self._name(index) for index in range(len(self._pool)))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Photograph:
        rgb, depth = self._pool.load(index)
        return Photograph(self._name(index), rgb, np.asarray(depth, np.float32))

    def _name(self, index: int) -> str:
        return f"{self._pool.config.seed}-{index:06d}"


class PseudoLabels:
    """Depth files named as the samples of a data set, in metres or any other unit."""

    def __init__(self, folder: Path, suffix: str, scale: float | None) -> None:
        if not folder.is_dir():
            raise UsageError(f"transfer.pseudo_labels {folder}: no such folder")
        self.folder, self.suffix, self.scale = folder, suffix, scale

    @functools.cached_property
    def _files(self) -> dict[str, Path]:
        return files_by_stem(check_root(self.folder), READ_SUFFIXES, self.suffix)

    def __getitem__(self, name: str) -> np.ndarray:
        """(H, W) float32, NaN where there is none. Raises InputError: no such file, or no depth in it."""
        path = self._files.get(name)
        if path is None:
            raise InputError(f"{self.folder / name}{self.suffix}: no pseudo-label (.tif, .png, .npy, ...)")
        depth = read_depth(path, scale=self.scale, scale_flag="transfer.scale")
        values = np.array(depth.values, np.float32)
        return 1 / values if depth.metadata.kind == "inverse" else values


class _Maps(NamedTuple):
    """rgb (H, W, 3), truth (H, W) and, in a transfer from files, the pseudo-label (H, W)."""

    rgb: np.ndarray
    truth: np.ndarray
    pseudo: np.ndarray | None


class PhotoSamples(Dataset[Sample]):
    """Samples 0, 1, ... of a run. Keys of a batch of B:

    image   (B, 3, *process) the whole photograph, 0..1
    truth   (B, 1, ., .)     metres, 0 = not known: of the whole photograph or of the tile, at the photograph's scale
    rgb     (B, 3, *process) the tile; box (B, 4) where it lies, as fractions
    pseudo  (B, 1, ., .)     the pseudo-label of the tile, 0 = none, where labels are read from disk
    seed    (B,) int64       for what a step draws for that sample

    A sample that cannot be read is replaced by another one, and told under BROKEN: [(name, why)].
    """

    def __init__(self, config: TrainConfig, length: int) -> None:
        self.config, self.length = config, length
        self.data = open_training_data(config)
        self.endless = isinstance(config.data, SceneDataConfig) and config.data.endless
        self.labels = open_pseudo_labels(config)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.config.seed, index))
        photograph, broken = self._read(index, rng)
        seed = int(rng.integers(2**62))
        sample = self._tile(photograph, rng) if self.config.on_tiles else self._whole(photograph)
        return {**sample, "seed": torch.tensor([seed]), BROKEN: broken}

    def _read(self, index: int, rng: np.random.Generator) -> tuple[_Maps, list[tuple[str, str]]]:
        """The photograph whose turn it is, or another where it is broken. Raises as first_usable."""
        count = len(self.data)
        turn = index
        if not self.endless:
            turn = permutation(self.config.seed, index // count, count)[index % count]
        turns = chain([turn], iter(lambda: int(rng.integers(count)), None))

        def draw() -> tuple[str, Callable[[], _Maps]]:
            place = next(turns)
            return self.data.names[place % count], lambda: self._prepare(self.data[place], rng)

        return first_usable(draw)

    def _prepare(self, sample: Photograph, rng: np.random.Generator) -> _Maps:
        pseudo = None
        if self.labels is not None:
            pseudo = nearest(self.labels[sample.name], sample.truth.shape)
        maps = [sample.truth] if pseudo is None else [sample.truth, pseudo]
        rgb, maps = augment(sample.rgb, maps, self.config.augment, rng)
        size = self.config.sampling.image
        if size is not None and size != rgb.shape[:2]:
            rgb, maps = _resize_photograph(rgb, size), [nearest(values, size) for values in maps]
        tile = self.config.sampling.tile
        if self.config.on_tiles and (rgb.shape[0] < tile[0] or rgb.shape[1] < tile[1]):
            raise InputError(
                f"{sample.name}: {rgb.shape[0]} rows x {rgb.shape[1]} columns cannot hold "
                f"a tile of sampling.tile {list(tile)}"
            )
        return _Maps(rgb, maps[0], maps[1] if pseudo is not None else None)

    def _whole(self, maps: _Maps) -> Sample:
        return {"image": self._image(maps.rgb), "truth": _known(maps.truth)}

    def _image(self, rgb: np.ndarray) -> Tensor:
        """The whole photograph at the process size."""
        if self.config.averages_photographs:
            return shrink(_to_integers(rgb), self.config.process_size)
        return resize(_to_tensor(rgb), self.config.process_size, True)

    def _tile(self, maps: _Maps, rng: np.random.Generator) -> Sample:
        height, width = maps.truth.shape
        rows, columns = self.config.sampling.tile
        top, left = self._corner(maps.truth, rng)
        window = np.s_[top : top + rows, left : left + columns]
        box = torch.tensor([[left / width, top / height, (left + columns) / width, (top + rows) / height]])
        process = self.config.process_size
        sample = {
            "image": self._image(maps.rgb),
            "rgb": resize(_to_tensor(maps.rgb[window]), process, True),
            "truth": _known(maps.truth[window]),
            "box": box,
        }
        return sample if maps.pseudo is None else {**sample, "pseudo": _known(maps.pseudo[window])}

    def _corner(self, truth: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
        """Where to cut the tile: a few draws for one whose truth says something."""
        sampling = self.config.sampling
        rows, columns = sampling.tile
        top = left = 0
        for _ in range(MAX_DRAWS):
            top = int(rng.integers(truth.shape[0] - rows + 1))
            left = int(rng.integers(truth.shape[1] - columns + 1))
            part = truth[top : top + rows, left : left + columns]
            if ((part > sampling.min_depth) & (part < sampling.max_depth)).mean() > sampling.min_valid:
                break
        return top, left


def open_training_data(config: TrainConfig) -> DataSet:
    """The data set of a run, its samples listed and none of them read. Raises UsageError, InputError as open_data."""
    if isinstance(config.data, SceneDataConfig):
        return PooledScenes(config.data)
    assert not isinstance(config.data, MixtureData)  # whose samples are made by samples/mixture.py
    return open_data(config.data)


def open_pseudo_labels(config: TrainConfig) -> PseudoLabels | None:
    """The pseudo-labels on disk, where the run reads any. Raises UsageError."""
    transfer = config.transfer
    if config.stage != "transfer" or transfer.pseudo_labels is None:
        return None
    return PseudoLabels(transfer.pseudo_labels, transfer.suffix, transfer.scale)


@functools.lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """The order of an epoch."""
    return tuple(np.random.default_rng((seed, epoch, count)).permutation(count).tolist())


def _resize_photograph(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) -> (*size, 3) float32 in 0..1: averaged where it gets smaller, bilinear else."""
    if rgb.shape[0] >= size[0] and rgb.shape[1] >= size[1] and rgb.dtype != np.float32:
        return shrink(rgb, size)[0].permute(1, 2, 0).numpy()
    return resize(_to_tensor(rgb), size, False)[0].permute(1, 2, 0).numpy()


def _to_integers(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, uint16 or float32 in 0..1 -> uint8 or uint16."""
    return rgb if rgb.dtype != np.float32 else np.rint(np.clip(rgb, 0, 1) * 65535).astype(np.uint16)


def _to_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8, uint16 or float32 in 0..1 -> (1, 3, H, W) float32 in 0..1."""
    scale = 1.0 if rgb.dtype == np.float32 else float(np.iinfo(rgb.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(rgb, np.float32)).permute(2, 0, 1)[None] / scale


def _known(depth: np.ndarray) -> Tensor:
    """(H, W) metres, NaN = not known -> (1, 1, H, W) with 0 there."""
    return torch.from_numpy(np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0))[None, None]
