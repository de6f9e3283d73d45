"""Point maps of a plane or of a sphere before a wall, as the reference vectors of MoGe-2 have them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from golden_rules import normal, uniform
from torch import Tensor


@dataclass(frozen=True)
class PointScene:
    """points (3, H, W) float32, up to a shift of z and a scale; valid (H, W)."""

    points: Tensor
    valid: Tensor


def point_scene(case: dict[str, Any], seed: int) -> PointScene:
    """The scene that one case of the vectors describes; all but the noise in float64."""
    height, width = case["height"], case["width"]
    aspect = width / height
    diagonal = math.hypot(1, aspect)
    u = (aspect / diagonal) * (2 * np.arange(width) + 1 - width) / width
    v = (1 / diagonal) * (2 * np.arange(height)[:, None] + 1 - height) / height
    u, v = np.broadcast_arrays(u, v)
    ray = np.stack([u / case["focal"], v / case["focal"], np.ones_like(u)])
    points = (ray * _depth(case, ray) - np.array([0, 0, case["shift"]])[:, None, None]) / case["scale"]
    if case["noise"]:
        points = points * (
            1 + case["noise"] * _channels_first(normal(case["name"], seed, (height, width, 3)))
        )
    valid = _mask(case, u * diagonal / aspect, v * diagonal, seed)
    if case["garbage"]:
        rubbish = case["garbage"] * _channels_first(
            normal(f"{case['name']}_garbage", seed, (height, width, 3))
        )
        points = np.where(valid, points, rubbish)
    return PointScene(torch.from_numpy(points.astype(np.float32)), torch.from_numpy(valid))


def _channels_first(values: Tensor) -> np.ndarray:
    return values.permute(2, 0, 1).numpy().astype(np.float64)


def _depth(case: dict[str, Any], ray: np.ndarray) -> np.ndarray:
    if case["scene"] == "plane":
        return case["distance"] / np.tensordot(case["normal"], ray, axes=1)
    centre = np.array(case["centre"])
    b, q = np.tensordot(centre, ray, axes=1), np.sum(ray**2, axis=0)
    inside = b**2 - q * (centre @ centre - case["radius"] ** 2)
    return np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / q, case["wall"])


def _mask(case: dict[str, Any], x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    kind, shape = case["mask"], x.shape
    if kind == "none":
        return np.ones(shape, bool)
    if kind == "ellipse":
        return (x / 0.9) ** 2 + (y / 0.8) ** 2 < 1
    if kind == "random":
        return uniform(f"{case['name']}_mask", seed, shape, 0, 1).numpy() < 0.5
    valid = np.zeros(shape, bool)
    valid[0, 0] = kind == "corner"
    return valid
