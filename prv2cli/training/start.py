"""Models to train, built and with the weights that a run starts from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prv2cli.checkpoints.model_file import (
    Checkpoint,
    load_strictly,
    read_checkpoint,
    without_downloads,
)
from prv2cli.coarse.load import load_coarse
from prv2cli.errors import CheckpointError, ConfigError
from prv2cli.hub.resolve import resolve
from prv2cli.model.build import Bundle, build_model
from prv2cli.model.coarse.lite import LiteCoarse
from prv2cli.model.config import WITHOUT, AnyModelConfig, BundleConfig, RefinerConfig, ZoeDepthConfig
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.encoder_start import load_encoder

CPU = torch.device("cpu")
_GUIDE_STEM = "guide.levels.0.enter.0.weight"


def read_start(config: TrainConfig) -> Checkpoint | None:
    """The file that `start_from` names, if any. Raises ConfigError: it is not there. CheckpointError: unreadable."""
    if config.start_from is None:
        return None
    if not config.start_from.is_file():
        raise ConfigError(f"start_from: {config.start_from}: no such file")
    return read_checkpoint(config.start_from)


def build_to_train(
    config: TrainConfig, trained: AnyModelConfig, start: Checkpoint | None = None
) -> nn.Module:
    """The modules of `trained` (the run's model, or the part of it that its stage trains) with their first weights.

    Nothing is downloaded for an encoder whose weights come from `start_from`, or from `start`, which takes its place.

    Raises:
        ConfigError: files of another architecture, or parts of a bundle that do not fit together. CheckpointError,
        InputError: weights that cannot be read or had.
    """
    start = start or read_start(config)
    has_refiner = start is not None and start.config.kind in ("refiner", "bundle")
    model = build_model(without_downloads(trained) if has_refiner else trained)
    check_channels(config, model)
    if config.encoder_from is not None:
        assert isinstance(model, LiteCoarse)
        load_encoder(model, config.encoder_from)
    if start is not None:
        _start_from(model, trained, start)
    # After the other: where `start_from` is a bundle, this takes its coarse network's place.
    if config.coarse_from is not None and (isinstance(model, Bundle) or config.stage == "coarse"):
        target = model.coarse if isinstance(model, Bundle) else model
        _load(target, _coarse_tensors(config), f"coarse_from: {config.coarse_from}")
    return model


def check_channels(config: TrainConfig, model: nn.Module) -> None:
    """A bundle's refiner must expect the features that its coarse network gives. Raises ConfigError."""
    if not isinstance(config.model, BundleConfig):
        return
    if isinstance(model, Bundle):
        coarse = model.coarse
    else:  # the refiner alone is trained; the bundle it is for must be possible all the same
        with torch.device("meta"):
            coarse = build_model(config.model.coarse)
    expected, gives = config.model.refiner.coarse.channels, tuple(coarse.channels)  # type: ignore[arg-type]
    if expected != gives:
        raise ConfigError(
            f"model.refiner.coarse.channels: {list(expected)}, but the coarse network "
            f"({config.model.coarse.kind}) gives {list(gives)}"
        )


def _start_from(model: nn.Module, trained: AnyModelConfig, checkpoint: Checkpoint) -> None:
    """Load a checkpoint of the model, of a part of it, or of a bundle that it is a part of."""
    candidates: list[tuple[nn.Module, AnyModelConfig]] = [(model, trained)]
    if isinstance(model, Bundle) and isinstance(trained, BundleConfig):
        candidates += [(model.refiner, trained.refiner), (model.coarse, trained.coarse)]
    parts = [checkpoint]
    if isinstance(checkpoint.config, BundleConfig):
        parts += [checkpoint.part("refiner"), checkpoint.part("coarse")]
    for part in parts:
        for target, config in candidates:
            if _before_growth(part.config) == _before_growth(config):
                tensors = _grown(target) | widened(part.tensors, target)
                _load(target, tensors, f"start_from: {checkpoint.name}")
                return
    raise ConfigError(
        f"start_from: {checkpoint.name} holds another architecture than this configuration's model"
    )


def _before_growth(config: AnyModelConfig) -> AnyModelConfig:
    """The architecture but for what trained weights can be given later: layers of the head that begin as identity, and
    all that is done outside the network."""
    config = without_downloads(config)
    if not isinstance(config, RefinerConfig):
        return config
    head = config.head.model_copy(update={"dilations": ()})
    coarse = config.coarse.model_copy(update={"character": False})
    return config.model_copy(update={"head": head, "coarse": coarse, **WITHOUT})


def widened(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors, the guide's first convolution with zeros for what weights from before the growth were not told."""
    first = next((name for name in tensors if name.endswith(_GUIDE_STEM)), None)
    wanted = dict(model.named_parameters()).get(first or "")
    if first is None or wanted is None or wanted.shape[1] <= tensors[first].shape[1]:
        return tensors
    weight = tensors[first]
    zeros = weight.new_zeros(weight.shape[0], wanted.shape[1] - weight.shape[1], *weight.shape[2:])
    return {**tensors, first: torch.cat([weight, zeros], dim=1)}


def _grown(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that weights from before the growth lack."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith("head.along.")}


def _coarse_tensors(config: TrainConfig) -> dict[str, Tensor]:
    """The weights of `coarse_from`, under our names."""
    assert config.coarse_from is not None
    source = resolve(config.coarse_from)
    wanted = config.model.coarse if isinstance(config.model, BundleConfig) else config.model
    if isinstance(wanted, ZoeDepthConfig) and source.path.is_dir():
        from prv2cli.coarse.zoedepth import read_zoedepth

        return read_zoedepth(source.path, source.name)[1]
    network = load_coarse(source, CPU, "outdoor")  # its range is this configuration's, not the file's
    module = getattr(network, "module", None)
    if module is None:
        raise ConfigError(f"coarse_from: {config.coarse_from} is a network that prv2 cannot train")
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


def _load(target: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    try:
        load_strictly(target, tensors)
    except CheckpointError as error:
        raise ConfigError(f"{what}: {error}") from error
