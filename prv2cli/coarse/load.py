"""From a model on this machine to a coarse network that is ready to run: the reader that its file needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from prv2cli.checkpoints.authors.da3 import convert_da3, is_da3, reads_metres
from prv2cli.checkpoints.authors.dav2 import convert_dav2, convert_dav2_hf
from prv2cli.checkpoints.authors.moge2 import convert_moge2, is_moge2
from prv2cli.checkpoints.authors.rename import Tensors
from prv2cli.checkpoints.model_file import Checkpoint, read_checkpoint
from prv2cli.checkpoints.safe_read import read_state_dict, read_with_settings
from prv2cli.choices import Scene
from prv2cli.coarse.da3 import Da3Network
from prv2cli.coarse.dav2 import Dav2Network
from prv2cli.coarse.lite import LiteNetwork
from prv2cli.coarse.moge2 import Moge2Network
from prv2cli.coarse.network import CoarseNetwork
from prv2cli.coarse.transformers.files import read_settings
from prv2cli.coarse.transformers.network import load_transformers_coarse
from prv2cli.coarse.zoedepth import ZoeDepthNetwork
from prv2cli.errors import CheckpointError
from prv2cli.files.hashing import hash_file
from prv2cli.hub.resolve import ModelFile
from prv2cli.model.config import (
    AnyCoarseConfig,
    Da3Config,
    Dav2Config,
    LiteConfig,
    Moge2Config,
    ZoeDepthConfig,
)

MAX_DEPTH: dict[Scene, float] = {
    "indoor": 20.0,
    "outdoor": 80.0,
}  # metres, of Depth Anything V2's metric models
_ADAPTERS: dict[type[AnyCoarseConfig], Callable[[nn.Module, Any, torch.device, str, str], CoarseNetwork]] = {
    LiteConfig: LiteNetwork,
    Dav2Config: Dav2Network,
    Moge2Config: Moge2Network,
    Da3Config: Da3Network,
    ZoeDepthConfig: ZoeDepthNetwork,
}


def load_coarse(source: ModelFile, device: torch.device, scene: Scene | None = None) -> CoarseNetwork:
    """A coarse network, ready on a device.

    Args:
        source: a checkpoint of ours; a published MoGe-2 (.pt), metric Depth Anything V2 (.pth, or its transformers
            layout) or monocular Depth Anything 3 (its folder, or registered); or with a name that starts with `hf:`
            any depth model of transformers.
        scene: tells the range of a Depth Anything V2 file that is not in the registry: 20 m or 80 m.

    Raises:
        CheckpointError: the file is none of these. MissingExtraError: it needs transformers.
    """
    if source.path.is_dir():
        return _from_snapshot(source, device)
    if source.path.suffix == ".safetensors" and (source.entry is None or source.entry.loader == "prv2"):
        return coarse_network(read_checkpoint(source.path), device, source.name)
    return _built(*_read_authors_file(source, scene), device, source)


def _read_authors_file(source: ModelFile, scene: Scene | None) -> tuple[AnyCoarseConfig, Tensors]:
    """What a file of a network's authors holds; which network, its registered loader or its tensors' names say."""
    state, settings = read_with_settings(source.path, "model_config")
    if source.entry is not None and source.entry.loader == "da3":
        return convert_da3(state, metric=source.entry.metric)
    if is_moge2(state):
        return convert_moge2(state, settings)
    max_depth = source.entry.max_depth if source.entry else MAX_DEPTH[scene] if scene else None
    if max_depth is None:
        raise CheckpointError(
            f"{source.name}: a Depth Anything V2 file does not say its range; add --scene indoor (20 m) or "
            "--scene outdoor (80 m), or convert it with: prv2 models convert --max-depth"
        )
    return convert_dav2(state, max_depth=max_depth)


def coarse_network(checkpoint: Checkpoint, device: torch.device, name: str) -> CoarseNetwork:
    """The coarse network of a checkpoint of ours, ready on a device. Raises CheckpointError for other kinds."""
    config = checkpoint.config
    if not isinstance(config, AnyCoarseConfig):
        raise CheckpointError(
            f"{checkpoint.name}: a model of kind {config.kind} gives no coarse depth; use it with --model"
        )
    module: nn.Module = checkpoint.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return wrap(module.requires_grad_(False), config, device, name, checkpoint.sha256)


def wrap(
    module: nn.Module,
    config: AnyCoarseConfig,
    device: torch.device,
    name: str,
    identity: str,
) -> CoarseNetwork:
    """A built module with its pre- and post-processing."""
    return _ADAPTERS[type(config)](module, config, device, name, identity)


def _from_snapshot(source: ModelFile, device: torch.device) -> CoarseNetwork:
    """A repository with a config.json: Depth Anything V2 and 3 natively, everything else through transformers."""
    settings = read_settings(source.path, source.name)
    if is_da3(settings):
        state = read_state_dict(source.path / "model.safetensors")
        return _built(*convert_da3(state, metric=reads_metres(settings)), device, source)
    metric = settings.get("depth_estimation_type") == "metric"
    if settings.get("model_type") == "depth_anything" and metric and not source.name.startswith("hf:"):
        weights = source.path / "model.safetensors"
        return _built(*convert_dav2_hf(read_state_dict(weights), settings), device, source)
    return load_transformers_coarse(source.path, device, source.name, _identity(source))


def _identity(source: ModelFile) -> str:
    """What tells networks apart: the Hub's commit, whose bytes were checked already, else a sha256 of each file.

    Of a folder also of those that say what its numbers mean.
    """
    if source.revision is not None:
        return source.revision
    if not source.path.is_dir():
        return hash_file(source.path)
    settings = (source.path / name for name in ("config.json", "preprocessor_config.json"))
    files = [*sorted(source.path.glob("*.safetensors")), *(path for path in settings if path.is_file())]
    return " ".join(map(hash_file, files))


def _built(
    config: AnyCoarseConfig, tensors: Tensors, device: torch.device, source: ModelFile
) -> CoarseNetwork:
    checkpoint = Checkpoint(config, tensors, name=source.name)
    module = checkpoint.build().to(device).requires_grad_(False)
    identity = _identity(source)
    if isinstance(config, Dav2Config) and source.entry is None:
        # transformers computes otherwise from the same folder; the range of a file is what --scene said, not the file.
        identity += " native" if source.path.is_dir() else f" to {config.max_depth:g} m"
    return wrap(module, config, device, source.name, identity)
