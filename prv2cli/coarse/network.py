"""Coarse networks as the pipeline sees them: a photograph in, its coarse depth out, whatever the network.

lite, dav2, moge2, da3, zoedepth   our own modules, from a checkpoint   (a file each)
hf:org/name                        whatever transformers loads          (transformers/)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli.choices import Kind, Unit
from prv2cli.errors import InputError
from prv2cli.files.disk_array import DiskArray
from prv2cli.model.call_per_size import calls
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import BundleConfig, LiteConfig
from prv2cli.resampling.area import resize_photograph, shrink
from prv2cli.restoration.holes import fill_holes

# A relative map has an unknown shift and may be 0 (as inverse depth: infinitely far). Nothing is taken to be more than
# this many times as far away as the nearest point, so that 1/x stays within a range that can be refined.
RELATIVE_RANGE = 1000


@dataclass(frozen=True)
class CoarseDepth:
    """What a coarse network says of one photograph.

    Attributes:
        values: (1, 1, h, w) float32 on the CPU, of the photograph's aspect within 2 %; depth, or inverse depth.
        unit: metres (1/metres where inverse), or relative: known up to a scale only.
        affine: relative, and known up to an offset too: 0 and negative values are as good as any.
        features: for the refiner of a bundle: maps of levels 0.., on the device.
        seen: (1, 1, h, w) boolean: False where the network says that there is no surface (the sky); None: all is seen.
        as_seen: `seen` itself tells which pixels of the result have no depth, as coarse as it is; else what is not seen
            lies behind all the rest in `values`, and is told by its depth after refinement.
        measured: (1, 1, h, w) boolean: False where a given map has a hole that was filled; None: nowhere.
        estimated_focal_px: the focal length that the network found, in pixels of the photograph.
        normals: (1, 3, h, w) on the CPU: x to the right, y down, z away from the camera; zero vectors tell nothing.
    """

    values: Tensor
    kind: Kind = "depth"
    unit: Unit = "metre"
    affine: bool = False
    features: list[Tensor] = field(default_factory=list)
    seen: Tensor | None = None
    as_seen: bool = False
    measured: Tensor | None = None
    estimated_focal_px: float | None = None
    normals: Tensor | None = None


class CoarseNetwork(Protocol):
    """A coarse network, ready on a device. `identity` tells its weights apart: a sha256 or a commit."""

    name: str
    identity: str

    def predict(self, rgb: np.ndarray, focal_px: float | None = None) -> CoarseDepth:
        """Coarse depth of an (H, W, 3) uint8 or uint16 sRGB photograph; focal length in its pixels, if known."""
        ...


def positive_depth(coarse: CoarseDepth) -> Tensor:
    """(1, 1, h, w) depth, finite and > 0, holes filled. Raises InputError when no pixel is valid."""
    # The least numbers of an inverse map may have no depth that a float holds: they are holes.
    values = 1 / coarse.values if coarse.kind == "inverse" else coarse.values
    valid = torch.isfinite(values) & (values > 0)
    if not valid.any():
        raise InputError("the coarse depth map has no valid pixel (all are 0, negative, NaN or infinite)")
    return fill_holes(values, valid)


@runtime_checkable
class SeveralAtOnce(Protocol):
    """A coarse network that knows no focal length and takes several photographs at a time."""

    def predict_many(self, photos: Sequence[np.ndarray]) -> list[CoarseDepth]:
        """predict() of each, with the same values but for float32's rounding."""
        ...


@runtime_checkable
class PromptedNetwork(Protocol):
    """A coarse network that may take a depth map, such as a sensor's, as its prompt, if `takes_prompt`."""

    @property
    def takes_prompt(self) -> bool: ...

    def predict_prompted(self, rgb: np.ndarray, prompt: CoarseDepth) -> CoarseDepth:
        """Coarse depth in the prompt's unit."""
        ...


def takes_prompt(network: object) -> bool:
    """Whether a network takes a depth map as its prompt."""
    return isinstance(network, PromptedNetwork) and network.takes_prompt


def predict_many(
    network: CoarseNetwork, photos: Sequence[np.ndarray], focals: Sequence[float | None]
) -> list[CoarseDepth]:
    """Coarse depth of each photograph: together where the network can, else one after the other."""
    if isinstance(network, SeveralAtOnce):
        return network.predict_many(photos)
    return [network.predict(rgb, focal) for rgb, focal in zip(photos, focals, strict=True)]


def forward_per_size(module: nn.Module, images: Sequence[Tensor]) -> list[CoarseOutput]:
    """A coarse module's output for each of the (1, 3, h, w) images; those of one size share a call."""
    found: dict[int, CoarseOutput] = {}
    for places, (together,) in calls([[image] for image in images]):
        out: CoarseOutput = module(together)
        found |= {place: out.of(row) for row, place in enumerate(places)}
    return [found[place] for place in range(len(images))]


def bundle_input(rgb: np.ndarray | DiskArray, bundle: BundleConfig) -> Tensor:
    """A photograph as a bundle's coarse network was trained on it: (1, 3, *process_size) float32 in 0..1.

    In PatchRefiner every network gets it resized in the same way, also those that resize in their own when they run
    alone (Depth Anything V2: bicubic, to the photograph's aspect).
    """
    resized = shrink if isinstance(bundle.coarse, LiteConfig) else resize_photograph
    return resized(rgb, bundle.process_size)
