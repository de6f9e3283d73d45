"""Inputs and weights of the reference vectors, made again from their names: nothing large is stored.

Every weight and every input of the reference runs is drawn from a generator seeded by a hash of its name, so
a test needs only the names, the shapes and the outputs, cut down by striding.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parents[1] / "data"
TOLERANCE = (
    2e-5  # of the largest absolute value; the reference code itself varies by 1.5e-6 with the CPU's kernels
)


def _generator(key: str) -> np.random.Generator:
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The state-dict entry `name`: normal, at a scale that keeps activations in range through all layers."""
    z = _generator(f"{name}|{seed}").standard_normal(shape)
    leaf = name.rpartition(".")[2]
    if leaf in ("pos_embed", "cls_token", "mask_token"):
        z *= 0.2
    elif leaf.startswith("gamma") or (
        leaf == "weight" and len(shape) == 1
    ):  # LayerScale and norms: about one
        z = 1 + 0.02 * z
    elif len(shape) >= 2:
        z /= math.sqrt(math.prod(shape[1:]))
    elif leaf == "running_var":
        z = 1 + 0.1 * np.abs(z)
    else:  # biases and running means
        z *= 0.02
    return torch.from_numpy(np.asarray(z, np.float32))


def image(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform in 0..1."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))


def uniform(tag: str, seed: int, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Uniform in low..high."""
    u = _generator(f"{tag}|{seed}").random(shape, dtype=np.float32)
    return torch.from_numpy(np.float32(low) + np.float32(high - low) * u)


def normal(tag: str, seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal."""
    return torch.from_numpy(_generator(f"{tag}|{seed}").standard_normal(shape).astype(np.float32))


@dataclass(frozen=True)
class Golden:
    """One reference case: its settings, the shapes of the authors' state dict, and the outputs, strided."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def load(cls, name: str) -> Golden:
        """tests/data/<name>.json and .npz."""
        meta = json.loads((DATA / f"{name}.json").read_text())
        with np.load(DATA / f"{name}.npz") as file:
            return cls(meta, dict(file))

    @property
    def seed(self) -> int:
        return int(self.meta["seed"])

    def state(self) -> dict[str, Tensor]:
        """The authors' state dict, floating entries only; `gains` multiply the entries of the parts they name."""
        gains: dict[str, float] = self.meta.get("gains", {})
        return {
            name: weight(name, tuple(shape), self.seed)
            * math.prod(gain for part, gain in gains.items() if part in name.split("."))
            for name, shape in self.meta["params"].items()
        }

    def stored(self, name: str, full: Tensor) -> np.ndarray:
        """The part of a full output that is stored, after checking the full shape."""
        output = self.meta["outputs"][name]
        assert list(full.shape) == output["shape"], name
        window = tuple(slice(*part) for part in output["stored"])
        return full.detach().numpy()[window]

    def error(self, name: str, full: Tensor) -> float:
        """Largest difference from the reference, relative to the reference's largest absolute value."""
        reference = self.arrays[name]
        return float(np.abs(self.stored(name, full) - reference).max() / np.abs(reference).max())
