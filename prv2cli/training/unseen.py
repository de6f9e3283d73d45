"""The model in training on maps of a network that training never sees: by this the best one is kept.

held-out scenes ─ the imitator kept for validation ─ coarse maps ─ the model, one tile each ─ figures of both
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli.evaluation.metrics.boundary_f1 import boundary_f1
from prv2cli.evaluation.metrics.edge_errors import edge_abs_rel
from prv2cli.evaluation.metrics.pixels import abs_rel
from prv2cli.model.depth_space import Affine
from prv2cli.model.refiner.patchrefiner import SURFACE_WINDOW, PatchRefiner
from prv2cli.resampling.guide import guide_size, to_guide
from prv2cli.restoration.character import character
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import HELD_OUT_SEED, SceneDataConfig
from prv2cli.training.imitators.imitate import UNSEEN, load_unseen
from prv2cli.training.maps.draw import FARTHEST, imitate
from prv2cli.training.samples.scene_pool import ScenePool

MEASURED = 77  # the seed of other scenes, on which what was chosen is measured
BLURRED = 20.0
_FIGURES = {
    "abs_rel": abs_rel,
    "edge_abs_rel": edge_abs_rel,
    "boundary_f1": boundary_f1,
}


@dataclass(frozen=True)
class Case:
    """A held-out scene and a network's map of it."""

    rgb: Tensor  # (1, 3, H, W) in 0..1
    coarse: Tensor  # (1, 1, H, W) inverse depth
    truth: np.ndarray  # (H, W) metres


@dataclass(frozen=True)
class Figures:
    """Means over the scenes, by row ("refined", "coarse")."""

    means: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        return {"means": self.means}


class UnseenMaps:
    """Measures the model at every `save_every` steps, and at the last one."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self._cases: list[Case] | None = None

    def due(self, step: int) -> bool:
        return step % self.config.save_every == 0 or step == self.config.total_steps

    @torch.inference_mode()
    def measure(self, model: nn.Module) -> Figures:
        """Of the model, which is left in the mode it was in."""
        assert isinstance(model, PatchRefiner)
        if self._cases is None:  # the imitator may not be there before the run
            self._cases = held_out(self.config)
        was_training = model.training
        model.eval()
        refined = [_figures(self._refine(model, case), case.truth) for case in self._cases]
        model.train(was_training)
        coarse = [_figures(case.coarse, case.truth) for case in self._cases]
        return Figures({"refined": _mean(refined), "coarse": _mean(coarse)})

    def score(self, report: Figures) -> float:
        """Error at edges as a share of the map's, less what is gained in F1."""
        refined, coarse = report.means["refined"], report.means["coarse"]
        gain = refined["boundary_f1"] - coarse["boundary_f1"]
        return refined["edge_abs_rel"] / coarse["edge_abs_rel"] - gain

    def _refine(self, model: PatchRefiner, case: Case) -> Tensor:
        norm = Affine.of(case.coarse)
        coarse, rgb = norm.encode(case.coarse).to(self.device), case.rgb.to(self.device)
        guide, (height, width) = model.config.coarse, coarse.shape[-2:]
        size = guide_size(height, width, guide.guide_stride, guide.guide_max_side)
        told = []
        if self.config.tells_character:
            told = [character(coarse, coarse.shape[-2:], size, SURFACE_WINDOW)]
        features = model.encode_image(to_guide(rgb, size), to_guide(coarse, size), *told)
        whole, first = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.zeros(1, dtype=torch.long)
        cropped = model.crop(features, whole.to(self.device), first.to(self.device), coarse.shape[-2:])
        refined = model.refine_cropped(rgb, coarse, cropped)
        return norm.centre - refined.cpu() * norm.spread


def held_out(config: TrainConfig, seed: int = HELD_OUT_SEED) -> list[Case]:
    """The scenes and their maps, by the settings of a run. Their imitator must be there."""
    assert isinstance(config.data, SceneDataConfig)
    count = config.maps.validation
    # Every other one is a still life; their number is even.
    scenes = config.data.model_copy(update={"seed": seed, "scenes": count // 2, "still_lifes": count // 2})
    pool, imitator, cases = ScenePool(scenes), load_unseen(config.maps.imitators), []
    pool.make(1)
    for number, index in enumerate(i + kind * (count // 2) for i in range(count // 2) for kind in (0, 1)):
        rgb, depth = (torch.from_numpy(np.ascontiguousarray(part)) for part in pool.load(index))
        image = rgb.permute(2, 0, 1)[None].float() / 255
        size = UNSEEN.sizes[number % len(UNSEEN.sizes)]
        made = imitate(imitator, image, depth[None, None], size, BLURRED, smooth=False)
        cases.append(Case(image, made.values, depth.numpy()))
    return cases


def _figures(inverse: Tensor, truth: np.ndarray) -> dict[str, float]:
    depth = 1 / inverse[0, 0].float().clamp_min(1 / FARTHEST).numpy()
    mask = np.ones(truth.shape, bool)
    return {name: float(figure(depth, truth, mask)) for name, figure in _FIGURES.items()}


def _mean(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.nanmean([one[name] for one in figures])) for name in _FIGURES}
