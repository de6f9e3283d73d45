"""Pretrained weights for the encoder of `lite`, from a file with timm's names or those of efficientnet_lite_pytorch."""

from __future__ import annotations

from pathlib import Path

import torch

from prv2cli.checkpoints.authors.efficientnet import has_their_names, to_timm
from prv2cli.checkpoints.safe_read import read_state_dict
from prv2cli.errors import CheckpointError, ConfigError
from prv2cli.model.coarse.lite import INPUT_GAIN, LiteCoarse


def load_encoder(model: LiteCoarse, path: Path) -> None:
    """Load the weights of a classifier of `model`'s encoder; its own last layers are left out.

    They expect photographs normalised as timm says; `lite` normalises in its own way, which is made up for in the first
    convolution. Raises ConfigError: no such file, another architecture, or one whose input is not centred at 0.5.
    """
    if not path.is_file():
        raise ConfigError(f"encoder_from: {path}: no such file")
    try:
        tensors = read_state_dict(path)
    except CheckpointError as error:
        raise ConfigError(f"encoder_from: {error}") from error
    if has_their_names(tensors):
        tensors = to_timm(tensors)
    wanted = {name: t for name, t in model.network.state_dict().items() if t.is_floating_point()}
    wrong = [name for name, t in wanted.items() if name not in tensors or tensors[name].shape != t.shape]
    if wrong:
        raise ConfigError(
            f"encoder_from: {path} does not fit {model.config.encoder}: {len(wrong)} of {len(wanted)} tensors are "
            f"missing or of another shape, the first {wrong[0]}"
        )
    taken = {name: tensors[name].float() for name in wanted}
    first = next(iter(wanted))
    taken[first] = taken[first] / (INPUT_GAIN * _spread(model, path))
    model.network.load_state_dict(taken, strict=False)  # all but BatchNorm's counters, as checked above


def _spread(model: LiteCoarse, path: Path) -> torch.Tensor:
    """(1, 3, 1, 1): what the network's classifier divides centred photographs by."""
    from prv2cli.model.timm_pyramid import import_timm

    settings = import_timm().get_pretrained_cfg(model.config.encoder)
    if settings is None or any(abs(mean - 0.5) > 1e-6 for mean in settings.mean):
        raise ConfigError(
            f"encoder_from: {path}: {model.config.encoder} takes photographs with another mean than 0.5; "
            "use an encoder such as tf_efficientnet_lite0"
        )
    return torch.tensor(settings.std).view(1, 3, 1, 1)
