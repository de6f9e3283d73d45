"""Coarse networks as the pipeline sees them: a photograph in, its coarse depth out, whatever the network.

lite, dav2, zoedepth   our own modules, from a checkpoint   (this file)
hf:org/name            whatever transformers loads          (transformers_depth.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli.checkpoints.model_file import Checkpoint
from prv2cli.errors import CheckpointError, InputError
from prv2cli.files.disk_array import DiskArray
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import BundleConfig, Dav2Config, LiteConfig, ZoeDepthConfig
from prv2cli.model.grouped_call import call_grouped
from prv2cli.resampling.area import resize_photograph, shrink
from prv2cli.restoration.holes import fill_holes

Kind = Literal["depth", "inverse"]
Unit = Literal["metre", "relative"]


@dataclass(frozen=True)
class CoarseDepth:
    """What a coarse network says of one photograph.

    Attributes:
        values: (1, 1, h, w) float32 on the CPU, of the photograph's aspect within 2 %; depth, or inverse depth.
        unit: metres (1/metres where inverse), or relative: known up to a scale only.
        features: for the refiner of a bundle: maps of levels 0.., on the device.
    """

    values: Tensor
    kind: Kind = "depth"
    unit: Unit = "metre"
    features: list[Tensor] = field(default_factory=list)


class CoarseNetwork(Protocol):
    """A coarse network, ready on a device. `identity` tells its weights apart: a sha256 or a commit."""

    name: str
    identity: str

    def predict(self, rgb: np.ndarray, focal_px: float | None = None) -> CoarseDepth:
        """Coarse depth of an (H, W, 3) uint8 or uint16 sRGB photograph; focal length in its pixels, if known."""
        ...


def positive_depth(coarse: CoarseDepth) -> Tensor:
    """(1, 1, h, w) depth, finite and > 0, holes filled. Raises InputError when no pixel is valid."""
    values = coarse.values
    valid = torch.isfinite(values) & (values > 0)
    if not valid.any():
        raise InputError("the coarse depth map has no valid pixel (all are 0, negative, NaN or infinite)")
    if coarse.kind == "inverse":
        values = torch.where(valid, 1 / values, values)
    return fill_holes(values, valid)


@runtime_checkable
class SeveralAtOnce(Protocol):
    """A coarse network that knows no focal length and takes several photographs at a time."""

    def predict_many(self, photos: Sequence[np.ndarray]) -> list[CoarseDepth]:
        """predict() of each, with the same values but for float32's rounding."""
        ...


def predict_many(
    network: CoarseNetwork, photos: Sequence[np.ndarray], focals: Sequence[float | None]
) -> list[CoarseDepth]:
    """Coarse depth of each photograph: together where the network can, else one after the other."""
    if isinstance(network, SeveralAtOnce):
        return network.predict_many(photos)
    return [network.predict(rgb, focal) for rgb, focal in zip(photos, focals, strict=True)]


def forward_grouped(module: nn.Module, images: Sequence[Tensor]) -> list[CoarseOutput]:
    """A coarse module's output for each of the (1, 3, h, w) images; those of one size share a call."""

    def forward(rgb: Tensor) -> list[Tensor]:
        out: CoarseOutput = module(rgb)
        return [out.depth, *out.features]

    outputs = call_grouped(forward, [[image] for image in images])
    return [CoarseOutput(depth, features) for depth, *features in outputs]


class LiteNetwork:
    """Our small monocular network (model/coarse/lite.py)."""

    def __init__(
        self, module: nn.Module, config: LiteConfig, device: torch.device, name: str, identity: str
    ) -> None:
        self.module, self.config, self.device = module, config, device
        self.name, self.identity = name, identity

    def predict(self, rgb: np.ndarray, focal_px: float | None = None) -> CoarseDepth:
        return self.predict_many([rgb])[0]

    @torch.inference_mode()
    def predict_many(self, photos: Sequence[np.ndarray]) -> list[CoarseDepth]:
        from prv2cli.model.coarse.lite import input_size

        sizes = [input_size(rgb.shape[0], rgb.shape[1], self.config.long_side) for rgb in photos]
        inputs = [shrink(rgb, size).to(self.device) for rgb, size in zip(photos, sizes, strict=True)]
        outputs = forward_grouped(self.module, inputs)
        return [CoarseDepth(out.depth.float().cpu(), features=out.features) for out in outputs]


def bundle_input(rgb: np.ndarray | DiskArray, bundle: BundleConfig) -> Tensor:
    """A photograph as a bundle's coarse network was trained on it: (1, 3, *process_size) float32 in 0..1.

    In PatchRefiner every network gets it resized in the same way, also those that resize in their own when they run
    alone (Depth Anything V2: bicubic, to the photograph's aspect).
    """
    resized = shrink if isinstance(bundle.coarse, LiteConfig) else resize_photograph
    return resized(rgb, bundle.process_size)


def coarse_network(checkpoint: Checkpoint, device: torch.device, name: str) -> CoarseNetwork:
    """The coarse network of a checkpoint of ours, ready on a device. Raises CheckpointError for other kinds."""
    config = checkpoint.config
    if not isinstance(config, LiteConfig | Dav2Config | ZoeDepthConfig):
        raise CheckpointError(
            f"{checkpoint.name}: a model of kind {config.kind} gives no coarse depth; use it with --model"
        )
    module: nn.Module = checkpoint.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return wrap(module.requires_grad_(False), config, device, name, checkpoint.sha256)


def wrap(
    module: nn.Module,
    config: LiteConfig | Dav2Config | ZoeDepthConfig,
    device: torch.device,
    name: str,
    identity: str,
) -> CoarseNetwork:
    """A built module with its pre- and post-processing."""
    if isinstance(config, LiteConfig):
        return LiteNetwork(module, config, device, name, identity)
    if isinstance(config, ZoeDepthConfig):
        from prv2cli.model.coarse.zoedepth import ZoeDepthNetwork

        return ZoeDepthNetwork(module, config, device, name, identity)
    from prv2cli.model.coarse.dav2 import Dav2Network

    return Dav2Network(module, config, device, name, identity)
