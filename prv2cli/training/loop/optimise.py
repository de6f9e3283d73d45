"""What changes the weights: parameter groups, the schedule, BatchNorm's statistics, the mean of the weights."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import nn

from prv2cli.errors import ConfigError
from prv2cli.extras import import_muon
from prv2cli.model.timm_pyramid import import_timm
from prv2cli.training.config.optimiser import OptimiserConfig
from prv2cli.training.config.run import TrainConfig

_COARSE = "coarse."
_LOWEST = 1e-3  # of the rate, at the end of the cosine


class Group(NamedTuple):
    """Parameters with a rate and a weight decay of their own."""

    lr: float
    weight_decay: float
    parameters: list[nn.Parameter]


def parameter_groups(model: nn.Module, config: OptimiserConfig) -> list[Group]:
    """The parameters by their settings, in the model's order; those of rate 0 are frozen and left out.

    Raises ConfigError: what is to be frozen is not there.
    """
    names = [name for name, _ in model.named_parameters()]
    for start in config.frozen:
        if not any(name.startswith(start) for name in names):
            raise ConfigError(
                f"optimiser.frozen: no weight of this model has a name that begins with {start!r}"
            )
    groups: dict[tuple[float, float], Group] = {}
    encoders = _encoders_of(model)
    for name, parameter in model.named_parameters():
        lr, decay = _settings_of(name, config, encoders)
        if lr == 0:
            parameter.requires_grad_(False)
            continue
        groups.setdefault((lr, decay), Group(lr, decay, [])).parameters.append(parameter)
    return list(groups.values())


def _encoders_of(model: nn.Module) -> tuple[str, ...]:
    """What the names of an encoder's parameters begin with: the parts that a model's classes call its ENCODER."""
    named = ((name, getattr(type(part), "ENCODER", None)) for name, part in model.named_modules())
    return tuple(f"{name}.{own}.".removeprefix(".") for name, own in named if own is not None)


def _settings_of(name: str, config: OptimiserConfig, encoders: tuple[str, ...]) -> tuple[float, float]:
    """Rate and weight decay of a parameter by its name in a bundle, a refiner or a coarse network."""
    lr, decay = config.lr, config.weight_decay
    if config.frozen and name.startswith(config.frozen):
        return 0.0, decay
    if name.startswith(_COARSE):
        own = config.coarse_weight_decay
        return config.coarse_lr if config.coarse_lr is not None else lr, decay if own is None else own
    if config.encoder_lr is not None and name.startswith(encoders):
        return config.encoder_lr, decay
    return lr, decay


class Rates(NamedTuple):
    """Of one step: the share of every group's rate, and beta1 where the schedule sets it."""

    share: float
    momentum: float | None = None


def rates(config: TrainConfig, step: int) -> Rates:
    """The schedule at a step, 0 .. steps - 1."""
    optimiser, steps = config.optimiser, config.total_steps
    warm = min(1.0, (step + 1) / max(1.0, optimiser.warmup * steps))
    if optimiser.schedule == "constant":
        return Rates(warm)
    if optimiser.schedule == "cosine":
        return Rates(warm * max(_LOWEST, 0.5 + 0.5 * math.cos(math.pi * step / steps)))
    if optimiser.schedule == "plateau":
        left = (steps - step) / max(1.0, optimiser.decay * steps)
        return Rates(warm * max(_LOWEST, min(1.0, left)))
    # As torch's OneCycleLR: the top is reached at the end of the warm-up, the bottom at the last step.
    top, last = optimiser.warmup * steps - 1, max(steps - 1, 1)
    low, high = optimiser.momentum
    start = 1 / optimiser.div
    if step <= top:
        done = step / top if top > 0 else 1.0
        return Rates(_cosine(start, 1, done), _cosine(high, low, done))
    done = (step - top) / max(last - top, 1e-9)
    return Rates(_cosine(1, start / optimiser.final_div, done), _cosine(low, high, done))


def decay_start(config: TrainConfig) -> int:
    """The first step of a plateau's decay; from the warm-up to there the rate does not depend on the run's length."""
    steps = config.total_steps
    return steps - math.floor(config.optimiser.decay * steps)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))


def make_optimiser(groups: list[Group], config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser over the groups, in their order. Raises MissingExtraError: timm is too old for muon."""
    settings = [
        {"params": group.parameters, "lr": group.lr, "weight_decay": group.weight_decay} for group in groups
    ]
    if config.kind == "muon":
        import_timm()  # as it must be imported
        muon: torch.optim.Optimizer = import_muon()(settings, adjust_lr_fn="match_rms_adamw", nesterov=True)
        return muon
    return torch.optim.AdamW(settings)


def set_rates(optimiser: torch.optim.Optimizer, groups: list[Group], now: Rates) -> None:
    """Give every group its rate of the step."""
    for settings, group in zip(optimiser.param_groups, groups, strict=True):
        settings["lr"] = group.lr * now.share
        if now.momentum is not None:
            settings["betas"] = (now.momentum, settings["betas"][1])


def set_training_mode(model: nn.Module, config: TrainConfig) -> None:
    """Training mode, but evaluation mode for what is frozen: parts whose rate is 0, BatchNorm."""
    model.train()
    encoders = _encoders_of(model)
    for name, part in model.named_modules():
        batchnorm = config.batchnorm == "frozen" and isinstance(part, nn.modules.batchnorm._BatchNorm)
        if batchnorm or (name and _settings_of(f"{name}.", config.optimiser, encoders)[0] == 0):
            part.eval()


class Ema:
    """Exponential moving average of a model's floating tensors, warmed up so that early steps do not linger.

    With a decay of 0 it is the model itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval() if decay > 0 else model

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        if self.decay == 0:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
