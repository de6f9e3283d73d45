"""The imitators as they are used: their recipes, their inputs, loading, a map of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.hub import resolve as hub
from prv2cli.model.depth_space import Affine, LogNormalisation
from prv2cli.resampling.guide import to_guide
from prv2cli.training.config.scenes import ImitatorsConfig
from prv2cli.training.imitators.networks import ARCHITECTURES

Space = Literal["log", "inverse"]
BLURRED = (12.0, 32.0)  # pixels of a scene that one value of the blurred truth is the mean of


class Recipe(NamedTuple):
    """How an imitator is built and trained. sizes: of its input, in pixels; sharp: the weight of gradients."""

    architecture: str
    width: int
    space: Space
    sizes: tuple[int, ...]
    sharp: float


RECIPES: dict[str, Recipe] = {
    "unet": Recipe("unet", 14, "inverse", (96, 128, 160), 0.5),
    "pyramid": Recipe("pyramid", 32, "inverse", (160, 192, 224), 1.0),
    "smooth": Recipe("smooth", 40, "log", (96, 128, 160, 192), 0.0),
}
UNSEEN = Recipe("patches", 64, "inverse", (128, 160, 192, 224), 0.7)


class Imitator(Protocol):
    """A trained network, ready."""

    @property
    def space(self) -> Space: ...

    def predict(self, rgb: Tensor, depth: Tensor, size: int, blurred: float) -> Tensor:
        """A network's map of a scene.

        Args:
            rgb: (1, 3, H, W) in 0..1. depth: (1, 1, H, W) metres.
            size: of the network's input, a multiple of 32. blurred: pixels a cell of the blurred truth.

        Returns:
            (1, 1, size, size) in the imitator's space: log-depth, or inverse depth, which may fall below 0.
        """
        ...


class Guided(NamedTuple):
    """One of the networks that see the blurred truth."""

    network: nn.Module
    space: Space

    @torch.inference_mode()
    def predict(self, rgb: Tensor, depth: Tensor, size: int, blurred: float) -> Tensor:
        norm, truth = encoded(depth, self.space)
        inputs = network_inputs(rgb, truth, size, blurred)
        out = (self.network(inputs) + inputs[:, -1:]).float()
        if self.space == "log":
            return out * norm.spread + norm.centre
        return norm.centre - out * norm.spread


class Lite(NamedTuple):
    """The coarse network that comes with the program; it sees the photograph alone."""

    network: nn.Module
    space: Space = "log"

    @torch.inference_mode()
    def predict(self, rgb: Tensor, depth: Tensor, size: int, blurred: float) -> Tensor:
        return self.network(to_guide(rgb, (size, size))).depth.log()


def encoded(depth: Tensor, space: Space) -> tuple[LogNormalisation | Affine, Tensor]:
    """True depth in an imitator's space: its normalisation, and it normalised."""
    if space == "log":
        norm: LogNormalisation | Affine = LogNormalisation.of(depth)
        return norm, norm.encode(depth)
    norm = Affine.of(1 / depth)
    return norm, norm.encode(1 / depth)


def network_inputs(rgb: Tensor, truth: Tensor, size: int, blurred: float) -> Tensor:
    """The reduced photograph and the blurred truth: (N, 4, size, size)."""
    cells = max(2, round(truth.shape[-1] / blurred))
    low = F.interpolate(truth, size=(cells, cells), mode="area")
    low = F.interpolate(low, size=(size, size), mode="bicubic", align_corners=False)
    return torch.cat([(to_guide(rgb, (size, size)) - 0.5) * 4, low], dim=1)


def load_imitators(config: ImitatorsConfig) -> list[Imitator]:
    """All that training sees: each young and grown."""
    found: list[Imitator] = []
    for kind in config.kinds:
        if kind == "lite":
            found += [_load_lite()] * 2
        else:
            found += [_load(config, f"{kind}{age}", RECIPES[kind]) for age in ("-young", "")]
    return found


def _load_lite() -> Lite:
    checkpoint = read_checkpoint(hub.resolve("lite").path)
    return Lite(checkpoint.build().eval().requires_grad_(False))


def load_unseen(config: ImitatorsConfig) -> Imitator:
    """The one for validation."""
    return _load(config, "unseen", UNSEEN)


def path_of(config: ImitatorsConfig, name: str) -> Path:
    """Where an imitator lies."""
    return config.cache / f"{name}-seed{config.seed}-{config.steps}.safetensors"


def _load(config: ImitatorsConfig, name: str, recipe: Recipe) -> Guided:
    network = ARCHITECTURES[recipe.architecture](recipe.width)
    network.load_state_dict(load_file(path_of(config, name)))
    return Guided(network.eval().requires_grad_(False), recipe.space)
