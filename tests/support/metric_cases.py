"""Steps, ramps, and the cases that were run through the authors' metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden_rules import Golden, _generator, normal

from prv2cli.choices import Crop
from prv2cli.evaluation.metrics.edge_errors import paper_soft_edge_error
from prv2cli.evaluation.metrics.edges import disparity_edges
from prv2cli.evaluation.metrics.pixels import clip_depth, evaluated_pixels, paper_metrics

NEAR, FAR = 2.0, 2.4  # a step of 20 %: an edge at every threshold of boundary_f1
SHAPE = (32, 48)
ALL = np.ones(SHAPE, dtype=bool)


def step(column: int = 24, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Near on the left, far from `column` on."""
    depth = np.full(shape, NEAR)
    depth[:, column:] = FAR
    return depth


SIZE = (96, 128)


MIN_DEPTH, MAX_DEPTH = 1e-3, 15.0
VALUE = 1e-5  # relative: float32 sums in another order


def scene(tag: str, seed: int, shape: tuple[int, int], noise: float = 0.02) -> np.ndarray:
    """The reference scenes: a ramp of 1..20 m with six boxes in front, then noise. float32 metres."""
    dice, (height, width) = _generator(f"{tag}|{seed}"), shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    depth = 1 + 19 * (0.5 + 0.3 * (1 - y / height) + 0.1 * x / width)
    for _ in range(6):
        top, left = int(dice.integers(0, height - height // 4)), int(dice.integers(0, width - width // 4))
        box = int(dice.integers(height // 8, height // 2)), int(dice.integers(width // 8, width // 2))
        part = (slice(top, top + box[0]), slice(left, left + box[1]))
        depth[part] = 1 + 19 * dice.random() + 0.01 * (x[part] - left)
    depth *= 1 + noise * dice.standard_normal(shape)
    return np.clip(depth, 0.05, None).astype(np.float32)


class Case:
    """A truth, a prediction 8 % off, and the edges of the truth's disparity."""

    def __init__(self, golden: Golden) -> None:
        self.golden, self.values = golden, golden.meta["values"]
        self.truth = scene("scene", golden.seed, SIZE)
        error = 1 + 0.08 * normal("perr", golden.seed, SIZE).numpy()
        self.pred = (self.truth * error).clip(0.05).astype(np.float32)
        self.edges = disparity_edges(1.0 / self.truth * 40)
        self.exact_scene, self.noisy_scene = (
            scene("escene", golden.seed, SIZE, noise) for noise in (0.0, 0.03)
        )

    def scores(self, pred: np.ndarray, crop: Crop | None) -> dict[str, float]:
        """As published: range, crop, clipping, and SEE at disparity edges."""
        mask = evaluated_pixels(self.truth, MIN_DEPTH, MAX_DEPTH, crop)
        pred = clip_depth(pred, MIN_DEPTH, MAX_DEPTH)
        see = paper_soft_edge_error(pred, self.truth, mask, self.edges, exact=True)
        return {**paper_metrics(pred, self.truth, mask), "see": see}


def reference(case: Case, name: str, names: dict[str, str]) -> Any:
    values = case.values[name]
    assert set(values) == set(names)
    return pytest.approx({names[key]: value for key, value in values.items()}, rel=VALUE)


def line(column: int) -> np.ndarray:
    edges = np.zeros(SHAPE, dtype=bool)
    edges[:, column] = True
    return edges
