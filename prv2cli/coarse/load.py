"""From a model's name to networks that are ready to run: hub.resolve, then the reader that the file needs."""

from __future__ import annotations

from typing import Literal

import torch

from prv2cli.checkpoints.authors.patchrefiner import convert_dav2, convert_dav2_hf
from prv2cli.checkpoints.authors.rename import Tensors
from prv2cli.checkpoints.model_file import Checkpoint, read_checkpoint, read_config
from prv2cli.checkpoints.safe_read import read_state_dict
from prv2cli.coarse.network import CoarseNetwork, coarse_network, wrap
from prv2cli.errors import CheckpointError
from prv2cli.files.hashing import hash_file
from prv2cli.hub import resolve as hub
from prv2cli.model.config import AnyModelConfig, BundleConfig, Dav2Config, RefinerConfig

Scene = Literal["indoor", "outdoor"]
MAX_DEPTH: dict[Scene, float] = {
    "indoor": 20.0,
    "outdoor": 80.0,
}  # metres, of Depth Anything V2's metric models


def load_model(source: hub.ModelFile) -> Checkpoint:
    """The checkpoint of a refiner or a bundle. Raises CheckpointError for anything else."""
    _check_model_file(source)
    checkpoint = read_checkpoint(source.path)
    if not isinstance(checkpoint.config, RefinerConfig | BundleConfig):
        raise CheckpointError(
            f"{source.name}: a model of kind {checkpoint.config.kind} cannot refine; use it with --coarse"
        )
    return checkpoint


def model_config(source: hub.ModelFile) -> AnyModelConfig:
    """The configuration in the header of what load_model would load; no tensor is read. Raises CheckpointError."""
    _check_model_file(source)
    return read_config(source.path)


def _check_model_file(source: hub.ModelFile) -> None:
    if source.path.is_dir():
        raise CheckpointError(f"{source.name} holds no prv2 model; a depth network is used with --coarse")
    if source.path.suffix in (".pth", ".pt", ".bin"):
        raise CheckpointError(
            f"{source.name}: convert it first: prv2 models convert {source.path.name} OUT.safetensors"
        )


def load_coarse(source: hub.ModelFile, device: torch.device, scene: Scene | None = None) -> CoarseNetwork:
    """A coarse network, ready on a device.

    Args:
        source: a checkpoint of ours, a published metric Depth Anything V2 (.pth, or its transformers layout), or
            with a name that starts with `hf:` any depth model of transformers.
        scene: tells the range of a Depth Anything V2 file that is not in the registry: 20 m or 80 m.

    Raises:
        CheckpointError: the file is none of these. MissingExtraError: it needs transformers.
    """
    if source.path.is_dir():
        return _from_snapshot(source, device)
    if source.path.suffix == ".safetensors" and (source.entry is None or source.entry.loader == "prv2"):
        return coarse_network(read_checkpoint(source.path), device, source.name)
    max_depth = source.entry.max_depth if source.entry else MAX_DEPTH[scene] if scene else None
    if max_depth is None:
        raise CheckpointError(
            f"{source.name}: a Depth Anything V2 file does not say its range; add --scene indoor (20 m) or "
            "--scene outdoor (80 m), or convert it with: prv2 models convert --max-depth"
        )
    config, tensors = convert_dav2(read_state_dict(source.path), max_depth=max_depth)
    return _dav2(config, tensors, device, source)


def _from_snapshot(source: hub.ModelFile, device: torch.device) -> CoarseNetwork:
    """A repository in transformers' layout: Depth Anything V2 natively, everything else through transformers."""
    from prv2cli.coarse.transformers import load_transformers_coarse, read_settings

    settings = read_settings(source.path, source.name)
    metric = settings.get("depth_estimation_type") == "metric"
    if settings.get("model_type") == "depth_anything" and metric and not source.name.startswith("hf:"):
        weights = source.path / "model.safetensors"
        config, tensors = convert_dav2_hf(read_state_dict(weights), settings)
        return _dav2(config, tensors, device, source)
    return load_transformers_coarse(source.path, device, source.name, _identity(source))


def _identity(source: hub.ModelFile) -> str:
    """What tells weights apart: the Hub's commit, whose bytes were checked already, else a sha256 of each file."""
    if source.revision is not None:
        return source.revision
    files = sorted(source.path.glob("*.safetensors")) if source.path.is_dir() else [source.path]
    return " ".join(map(hash_file, files))


def _dav2(config: Dav2Config, tensors: Tensors, device: torch.device, source: hub.ModelFile) -> CoarseNetwork:
    checkpoint = Checkpoint(config, tensors, name=source.name)
    module = checkpoint.build().to(device).requires_grad_(False)
    return wrap(module, config, device, source.name, _identity(source))
