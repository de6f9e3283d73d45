"""Model files: safetensors with their configuration and provenance in the header. No network access here.

    read header -> validate configuration -> check values -> build the model -> check names, shapes -> load

A checkpoint explains itself: nothing but the file is needed to build the model. No pickle is ever read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from prv2cli.atomic import atomic_write
from prv2cli.config import AnyModelConfig, parse_model_config
from prv2cli.errors import CheckpointError, ConfigError
from prv2cli.model import build_model

FORMAT = 1
_HEADER_KEY = "prv2"


@dataclass(frozen=True)
class Checkpoint:
    """A model file, read and checked. `sha256` is of the file's bytes, `name` what messages call it."""

    config: AnyModelConfig
    tensors: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    name: str = "the checkpoint"

    def build(self) -> nn.Module:
        """The model in eval mode, loaded strictly. Raises CheckpointError when tensors do not fit."""
        model = build_model(self.config)
        try:
            load_strictly(model, self.tensors)
        except CheckpointError as error:
            raise CheckpointError(f"{self.name}: {error}") from error
        return model.eval()


def save_checkpoint(
    path: Path, model: nn.Module, config: AnyModelConfig, provenance: dict[str, Any]
) -> None:
    """Write one safetensors file, atomically, without BatchNorm's integer counters: eval never reads them."""
    tensors = {
        name: tensor.detach().float().contiguous().cpu()
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }
    header = {"format": FORMAT, "config": config.model_dump(mode="json"), "provenance": provenance}
    with atomic_write(path) as file:
        file.write(save(tensors, {_HEADER_KEY: json.dumps(header)}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check a model file of ours.

    Raises:
        CheckpointError: not safetensors, no prv2 header, a bad configuration, or values that are not finite.
    """
    with _opened(path) as file:
        data = path.read_bytes()
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = _parse_header(path, metadata)
    config = _parse_config(path, header)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: tensor {name} holds NaN or infinite values; the file is damaged")
    digest = hashlib.sha256(data).hexdigest()
    return Checkpoint(config, tensors, header.get("provenance", {}), digest, str(path))


def read_config(path: Path) -> AnyModelConfig:
    """The configuration in the header of a model file; no tensor is read. Raises CheckpointError."""
    with _opened(path) as file:
        metadata = file.metadata() or {}
    return _parse_config(path, _parse_header(path, metadata))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, opened by safetensors; whatever fails while it is read is a CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


def _parse_config(path: Path, header: dict[str, Any]) -> AnyModelConfig:
    try:
        return parse_model_config(header["config"], f"{path}: configuration in the header")
    except ConfigError as error:  # the file is wrong, not the call
        raise CheckpointError(str(error)) from error


def _parse_header(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if _HEADER_KEY not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a prv2 model (no '{_HEADER_KEY}' in its header)"
        )
    try:
        header = json.loads(metadata[_HEADER_KEY])
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: the prv2 header is not JSON ({error})") from error
    if not isinstance(header, dict) or "config" not in header:
        raise CheckpointError(f"{path}: the prv2 header has no configuration")
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: model format {header.get('format')!r}; this version of prv2 reads format {FORMAT}. "
            "Update with: pip install -U prv2cli"
        )
    return header


def load_strictly(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load every tensor into the model; missing, surplus or misshapen ones are one clear error."""
    expected = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    missing, surplus = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or surplus:
        raise CheckpointError(
            f"the tensors do not fit the model: {len(missing)} missing {missing[:3]}, "
            f"{len(surplus)} surplus {surplus[:3]}"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"tensor {name} has shape {tuple(tensor.shape)}, "
                f"the model needs {tuple(expected[name].shape)}"
            )
    # BatchNorm's integer counters are not stored, the one reason for strict=False; names were checked above.
    model.load_state_dict(tensors, strict=False)
