"""A step's forward pass as one module: compiled, its statistics shared, its gradients those of all processes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from prv2cli.errors import ConfigError
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.distributed import World
from prv2cli.training.stages.table import Batch, StepOutput, stage_of


class Forward(nn.Module):
    """A step's forward pass as a module: what DDP wraps."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config, self.step = model, config, stage_of(config).step

    def forward(self, batch: Batch, progress: float) -> StepOutput:
        return self.step(self.model, batch, progress, self.config)


def wrapped(
    model: nn.Module, config: TrainConfig, world: World, device: torch.device
) -> tuple[nn.Module, nn.Module]:
    """The model, its BatchNorm as configured, and its forward pass: a Forward, or one that DDP shares.

    Raises ConfigError: statistics of all processes on a device that cannot.
    """
    if config.batchnorm == "synchronised":
        if device.type != "cuda":
            raise ConfigError("batchnorm: synchronised works on CUDA devices only; use per-process or frozen")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if config.compile:
        _compile_parts(model)
    forward = Forward(model, config)
    if world.size == 1:
        return model, forward
    # BatchNorm's running statistics are the first process's.
    return model, DistributedDataParallel(forward, find_unused_parameters=config.has_unused_weights)


def _compile_parts(model: nn.Module) -> None:
    """torch.compile the parts of a model that do the work, in place: names and checkpoints stay as they are."""
    for name, part in model.named_children():
        if name in ("coarse", "refiner"):
            _compile_parts(part)
        elif any(True for _ in part.parameters()):
            part.compile()
