"""Renaming the tensors of a state dict by rules, and checking that the result is exactly what a model has.

rename   their names -> ours; a name without a rule is refused
check    the names and shapes of a model; every fault is told in their names
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prv2cli.errors import CheckpointError

Tensors = dict[str, Tensor]
Rules = Mapping[str, str | None]  # their prefix -> ours, or None: never read by their forward pass


def rename(state: Mapping[str, Tensor], rules: Rules, what: str) -> Tensors:
    """Apply the rules; the longest matching prefix wins. BatchNorm's integer counters are dropped."""
    renamed: Tensors = {}
    unknown = []
    for name, tensor in state.items():
        if name.endswith(".num_batches_tracked"):
            continue
        prefix = _matching_prefix(name, rules)
        if prefix is None:
            unknown.append(name)
        elif (new := rules[prefix]) is not None:
            renamed[new + name.removeprefix(prefix)] = tensor
    refuse(unknown, "unknown", what)
    return renamed


def _matching_prefix(name: str, rules: Rules) -> str | None:
    """The longest prefix of whole dotted parts that has a rule."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        prefix = ".".join(parts[:count])
        if prefix in rules:
            return prefix
    return None


def original(name: str, rules: Rules) -> str:
    """Their name for one of our tensors, for error messages."""
    inverse = {ours: theirs for theirs, ours in rules.items() if ours is not None}
    prefix = _matching_prefix(name, inverse)
    return name if prefix is None else f"{inverse[prefix]}{name.removeprefix(prefix)}"


def shape_of(tensors: Tensors, name: str, rules: Rules, axes: int) -> torch.Size:
    """The shape of a tensor that is there and has so many axes. Raises CheckpointError."""
    if name not in tensors:
        raise CheckpointError(f"missing tensor {original(name, rules)}")
    shape = tensors[name].shape
    if len(shape) != axes:
        raise CheckpointError(
            f"tensor {original(name, rules)} of shape {list(shape)}: it should have {axes} axes"
        )
    return shape


def floating(model: nn.Module) -> Tensors:
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def check(tensors: Tensors, expected: Tensors, rules: Rules, what: str) -> None:
    """Exactly the expected names, with the expected shapes; problems are told in the authors' names."""
    refuse([original(n, rules) for n in sorted(tensors.keys() - expected.keys())], "surplus", what)
    refuse([original(n, rules) for n in sorted(expected.keys() - tensors.keys())], "missing", what)
    for name, tensor in tensors.items():
        check_shape(name, tensor, tuple(expected[name].shape), rules, what)


def check_shape(name: str, tensor: Tensor, expected: tuple[int, ...], rules: Rules, what: str) -> None:
    if tuple(tensor.shape) != expected:
        raise CheckpointError(
            f"{what}: tensor {original(name, rules)} has shape {tuple(tensor.shape)}, {expected} was expected"
        )


def refuse(names: list[str], problem: str, what: str) -> None:
    if names:
        raise CheckpointError(f"{what}: {len(names)} {problem} tensors, e.g. {', '.join(names[:3])}")
