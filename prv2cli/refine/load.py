"""The refiner or bundle in a model file, and its configuration alone."""

from __future__ import annotations

from prv2cli.checkpoints.model_file import Checkpoint, read_checkpoint, read_config
from prv2cli.errors import CheckpointError
from prv2cli.hub.resolve import ModelFile
from prv2cli.model.config import AnyModelConfig, BundleConfig, RefinerConfig


def load_model(source: ModelFile) -> Checkpoint:
    """The checkpoint of a refiner or a bundle. Raises CheckpointError for anything else."""
    _check_model_file(source)
    checkpoint = read_checkpoint(source.path)
    if not isinstance(checkpoint.config, RefinerConfig | BundleConfig):
        raise CheckpointError(
            f"{source.name}: a model of kind {checkpoint.config.kind} cannot refine; use it with --coarse"
        )
    return checkpoint


def model_config(source: ModelFile) -> AnyModelConfig:
    """The configuration in the header of what load_model would load; no tensor is read. Raises CheckpointError."""
    _check_model_file(source)
    return read_config(source.path)


def _check_model_file(source: ModelFile) -> None:
    if source.path.is_dir():
        raise CheckpointError(f"{source.name} holds no prv2 model; a depth network is used with --coarse")
    if source.path.suffix in (".pth", ".pt", ".bin"):
        raise CheckpointError(
            f"{source.name}: convert it first: prv2 models convert {source.path.name} OUT.safetensors"
        )
