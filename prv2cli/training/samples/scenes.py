"""Training samples from procedural scenes: tiles for a refiner behind any coarse map, whole scenes for `lite`.

Sample i of a data set depends on (seed, i) alone, so any number of workers and any interruption give the same stream.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from prv2cli.extras import import_opencv
from prv2cli.model.refiner.patchrefiner import SURFACE_WINDOW
from prv2cli.resampling.guide import to_guide
from prv2cli.restoration.character import character
from prv2cli.restoration.edge_width import WIDE_EDGES
from prv2cli.training.config.samples import DegradeConfig
from prv2cli.training.config.scenes import MapsConfig, SceneDataConfig
from prv2cli.training.maps.draw import draw_map
from prv2cli.training.samples.augment import photograph
from prv2cli.training.samples.collate import Sample
from prv2cli.training.samples.scene_pool import ScenePool

_GUIDE_SIZES = (96, 72, 56)
_SCALES = (1.0, 1.0, 0.75, 1.333)
_MIN_TILE_SPREAD = 0.05  # log-depth; a tile of one plain wall teaches little


class _SceneSamples(Dataset[Sample]):
    """What both views share: choosing a scene, turning it, resizing it."""

    def __init__(self, data: SceneDataConfig, seed: int, length: int) -> None:
        self.data, self.seed, self.length = data, seed, length
        self.pool = ScenePool(data)

    def __len__(self) -> int:
        return self.length

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, index))

    def _scene(self, index: int, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The scene of a sample, randomly mirrored, at the given size: rgb (size, size, 3) uint8, depth float32."""
        cv2 = import_opencv()
        rgb, depth = self.pool.load(self.pool.choose(index, rng))
        if rng.random() < 0.5:
            rgb, depth = rgb[:, ::-1], depth[:, ::-1]
        if size != rgb.shape[0]:
            mode = cv2.INTER_AREA if size < rgb.shape[0] else cv2.INTER_LINEAR
            rgb = cv2.resize(np.ascontiguousarray(rgb), (size, size), interpolation=mode)
            # Depth is never averaged: a mean of two surfaces is a surface that does not exist. Plain INTER_NEAREST
            # would move it by up to half a pixel against its picture.
            depth = cv2.resize(
                np.ascontiguousarray(depth), (size, size), interpolation=cv2.INTER_NEAREST_EXACT
            )
        return rgb, np.ascontiguousarray(depth)


class RefineSamples(_SceneSamples):
    """Tiles for the refiner behind `given`: photograph, spoilt coarse depth, truth, and the whole image's guide.

    A sample is one scene with n = `data.tiles_per_scene` tiles of it: making a scene into a photograph and a coarse
    map costs more than cutting a tile. Keys: rgb (n, 3, t, t); coarse, truth (n, 1, t, t) normalised log-depth; box
    (n, 4); guide_rgb (1, 3, g, g); guide_depth (1, 1, g, g); spread_ratio (n, 1, 1, 1): the jitter of the
    normalisation, to be undone in the loss; wide (n,): whether a photograph would get a pass at half size first.
    """

    def __init__(
        self,
        data: SceneDataConfig,
        spoil: DegradeConfig,
        seed: int,
        length: int,
        batch: int,
        maps: MapsConfig | None = None,
    ) -> None:
        super().__init__(data, seed, length)
        self.spoil, self.batch, self.maps = spoil, batch, maps or MapsConfig()

    def __getitem__(self, index: int) -> Sample:
        rng = self._rng(index)
        scale = float(rng.choice(_SCALES))
        rgb, depth = self._scene(index, rng, max(self.data.tile, round(self.data.size * scale)))
        if rng.random() < 0.3:
            rgb, depth = np.rot90(rgb), np.rot90(depth)
        image = _to_tensor(photograph(np.ascontiguousarray(rgb), rng))
        truth = torch.from_numpy(np.ascontiguousarray(depth))[None, None]
        made = draw_map(image[None], truth, self.maps, self.spoil, rng)
        # Where the pass at half size begins is an estimate: the network is to be good on either side of it, and
        # what it estimates is more than the blur where edges lie close together.
        wide = made.blur > WIDE_EDGES * float(np.exp(rng.uniform(-0.65, 0.15)))
        jitter = _Jitter.draw(rng)
        # All samples of a batch share a guide size, or they could not be joined.
        guide = _GUIDE_SIZES[(index // self.batch) % len(_GUIDE_SIZES)]
        normalised, true_depth = jitter.apply(made.coarse[0]), jitter.apply(made.truth[0])
        corners = [self._corner(rng, depth) for _ in range(self.data.tiles_per_scene)]
        tile = self.data.tile
        windows = [(..., slice(y, y + tile), slice(x, x + tile)) for y, x in corners]
        return {
            "rgb": torch.stack([image[window] for window in windows]),
            "coarse": torch.stack([normalised[window] for window in windows]),
            "truth": torch.stack([true_depth[window] for window in windows]),
            "box": torch.tensor([[x, y, x + tile, y + tile] for y, x in corners]) / depth.shape[0],
            "guide_rgb": to_guide(image[None], (guide, guide)),
            "guide_depth": to_guide(normalised[None], (guide, guide)),
            "character": character(normalised[None], depth.shape, (guide, guide), SURFACE_WINDOW),
            "spread_ratio": torch.full((len(corners), 1, 1, 1), jitter.factor),
            "wide": torch.full((len(corners),), wide),
        }

    def _corner(self, rng: np.random.Generator, depth: np.ndarray) -> tuple[int, int]:
        """Where to cut the tile: a few tries for one that has some depth in it."""
        room, tile = depth.shape[0] - self.data.tile, self.data.tile
        top = left = 0
        for _ in range(3):
            top, left = (int(v) for v in rng.integers(0, room + 1, 2))
            if np.log(depth[top : top + tile : 4, left : left + tile : 4]).std() > _MIN_TILE_SPREAD:
                break
        return top, left


class _Jitter(NamedTuple):
    """Another centre and spread than the scene's own: a tile of a large photograph spans a small part of its range."""

    centre: float
    factor: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Jitter:
        """Mostly a wider spread."""
        factor = float(np.exp(rng.uniform(-0.3, 1.2)))
        return cls(float(rng.normal(0, 0.4)), factor)

    def apply(self, normalised: Tensor) -> Tensor:
        return (normalised - self.centre) / self.factor


class CoarseSamples(_SceneSamples):
    """Whole scenes for a monocular coarse network: rgb (1, 3, s, s), depth (1, 1, s, s) metres."""

    def __getitem__(self, index: int) -> Sample:
        rng = self._rng(index)
        rgb, depth = self._scene(index, rng, self.data.tile)
        return {
            "rgb": _to_tensor(photograph(np.ascontiguousarray(rgb), rng))[None],
            "depth": torch.from_numpy(depth)[None, None],
        }


def _to_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).float() / 255
