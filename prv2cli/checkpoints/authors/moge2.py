"""MoGe-2 as its authors publish it (`model.pt`: its configuration and a state dict) -> a Moge2Coarse.

The authors load with `strict=False`, so that a head that is not in the file goes unnoticed; here every tensor that the
configuration asks for must be there, and no other. The configuration in the file is obeyed where it describes a network
of the published kind, and anything else in it is refused by name. A state dict without one tells its layout by its
names and shapes, and the rest is as published.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from prv2cli.checkpoints.authors.rename import Rules, Tensors, check, floating, rename, shape_of
from prv2cli.errors import CheckpointError
from prv2cli.model.coarse.dinov2 import IMAGENET_MEAN, IMAGENET_STD, VITS
from prv2cli.model.coarse.moge2 import Moge2Coarse
from prv2cli.model.config import Moge2Config

_WHAT = "MoGe-2"
_LEVELS = 5
_MOST_UNITS = 16
_STACKS = {"neck": "neck", "points_head": "points", "mask_head": "validity", "normal_head": "normals"}
_STATISTICS = {"encoder.image_mean": IMAGENET_MEAN, "encoder.image_std": IMAGENET_STD}
# Blocks that are read, by how many projections there are: what the published files say of themselves.
_TAPS = {("vits", 2): (5, 11), ("vitb", 2): (5, 11), ("vitl", 4): (5, 11, 17, 23)}


def is_moge2(names: Iterable[str]) -> bool:
    """Whether a state dict has names of MoGe-2's (or of its predecessor's kind), whole or not."""
    return any(name.startswith(("encoder.backbone.", "encoder.output_projections.")) for name in names)


def convert_moge2(
    state: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None
) -> tuple[Moge2Config, Tensors]:
    """A MoGe-2 state dict -> the configuration and the tensors of a Moge2Coarse.

    Args:
        state: the authors' names -> tensors.
        settings: the file's `model_config`; None: it has none.

    Raises:
        CheckpointError: a name is unknown or missing, a shape does not fit, or the settings are those of another
            network.
    """
    _check_statistics(state)
    tensors = rename(state, _RULES, _WHAT)
    config = _infer(tensors) if settings is None else _read_settings(settings)
    with torch.device("meta"):
        expected = floating(Moge2Coarse(config))
    check(tensors, expected, _RULES, _WHAT)
    return config, tensors


def _rules() -> Rules:
    rules: dict[str, str | None] = {
        **dict.fromkeys(_STATISTICS),  # constants, checked
        "encoder.backbone.mask_token": None,  # for training DINOv2
        "encoder.backbone": "vit",
        "encoder.output_projections": "projections",
        "scale_head": "scale",
    }
    for theirs, ours in _STACKS.items():
        rules[f"{theirs}.input_blocks"] = f"{ours}.inputs"
        rules[f"{theirs}.resamplers"] = f"{ours}.up"
        rules[f"{theirs}.output_blocks.{_LEVELS - 1}"] = f"{ours}.output"
        for level in range(_LEVELS):
            for unit in range(_MOST_UNITS):
                for index, conv in ((2, "first"), (5, "second")):
                    layer = f"{theirs}.res_blocks.{level}.{unit}.layers.{index}"
                    rules[layer] = f"{ours}.units.{level}.{unit}.{conv}"
    return rules


_RULES = _rules()


def _check_statistics(state: Mapping[str, Tensor]) -> None:
    """The normalisation is stored like a weight; here it is a constant, so it must be that one."""
    for name, value in _STATISTICS.items():
        found = state[name].float().flatten() if name in state else torch.tensor(value)
        if len(found) != len(value) or not torch.allclose(found, torch.tensor(value)):
            raise CheckpointError(f"{_WHAT}: {name} is {found.tolist()[:4]}, not ImageNet's {list(value)}")


def _infer(tensors: Tensors) -> Moge2Config:
    """The configuration from names and shapes alone."""
    sizes = {size.tokens: name for name, size in VITS.items()}
    tokens = shape_of(tensors, "vit.cls_token", _RULES, 3)[-1]
    if tokens not in sizes:
        raise CheckpointError(f"{_WHAT}: tokens of {tokens} channels; known are {sizes}")
    projections = sum(re.fullmatch(r"projections\.\d+\.weight", name) is not None for name in tensors)
    taps = _TAPS.get((sizes[tokens], projections))
    if taps is None:
        raise CheckpointError(
            f"{_WHAT}: {projections} projections behind {sizes[tokens]}, and no model_config that says of which blocks"
        )
    return _validated(
        {
            "encoder": sizes[tokens],
            "taps": taps,
            "widths": [shape_of(tensors, f"neck.inputs.{k}.weight", _RULES, 4)[0] for k in range(_LEVELS)],
            "neck_units": _count_units(tensors, "neck"),
            "head_units": _count_units(tensors, "points"),
            "normals": any(name.startswith("normals.") for name in tensors),
        }
    )


def _count_units(tensors: Tensors, stack: str) -> list[int]:
    found = [re.match(rf"{stack}\.units\.(\d+)\.(\d+)\.", name) for name in tensors]
    units = {(int(match[1]), int(match[2])) for match in found if match}
    return [sum(level == k for level, _ in units) for k in range(_LEVELS)]


def _read_settings(settings: Mapping[str, Any]) -> Moge2Config:
    """A `model_config` of the published kind; whatever else it asks for is an error that names it."""
    encoder, neck, points = (_section(settings, name) for name in ("encoder", "neck", "points_head"))
    size = _size(encoder.get("backbone"))
    widths = _plain(neck.get("dim_res_blocks"))
    if not isinstance(widths, list) or len(widths) != _LEVELS:
        raise _another("neck.dim_res_blocks", widths, f"{_LEVELS} widths")
    _same("encoder.dim_out", encoder.get("dim_out"), widths[0])
    _check_stack(neck, "neck", [_plus_two(widths[0]), 2, 2, 2, 2], widths, None)
    heads = {"points_head": 3, "mask_head": 1, "normal_head": 3}
    for name, channels in heads.items():
        if name == "normal_head" and settings.get(name) is None:
            continue
        head = _section(settings, name)
        _check_stack(head, name, widths, widths, channels)
        _same(f"{name}.num_res_blocks", _units(head), _units(points))
    scale = _section(settings, "scale_head").get("dims")
    _same("scale_head.dims", _plain(scale), [VITS[size].tokens, widths[0], widths[0], 1])
    return _validated(
        {
            "encoder": size,
            "taps": _taps(encoder.get("intermediate_layers"), VITS[size].blocks),
            "widths": widths,
            "neck_units": _units(neck),
            "head_units": _units(points),
            "normals": settings.get("normal_head") is not None,
            "remap": settings.get("remap_output", "linear"),
            "tokens": settings.get("num_tokens_range", [1200, 3600]),
        }
    )


def _size(backbone: Any) -> str:
    names = {f"dinov2_{name}14": name for name in VITS}
    if str(backbone) not in names:
        raise _another("encoder.backbone", backbone, " or ".join(names))
    return names[str(backbone)]


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    if not isinstance(section, dict):
        raise CheckpointError(
            f"{_WHAT}: model_config has no {name}; MoGe-2 gives metric points, their validity and their scale, "
            "and a network without one of them is not read"
        )
    return section


def _check_stack(
    stack: Mapping[str, Any], name: str, inputs: list[Any], widths: list[Any], outputs: int | None
) -> None:
    """What shapes do not tell of a stack of convolutions, and what they tell in a worse way."""
    last = [None] * (_LEVELS - 1) + [outputs]
    given = stack.get("dim_out")
    _same(f"{name}.dim_out", _plain(given if isinstance(given, list | tuple) else [given] * _LEVELS), last)
    doubling = [*("conv_transpose",) * (_LEVELS - 2), "bilinear"]
    for key, found, expected in (
        ("dim_in", _plain(stack.get("dim_in")), inputs),
        ("dim_res_blocks", _plain(stack.get("dim_res_blocks")), widths),
        ("resamplers", _plain(stack.get("resamplers")), doubling),
        # The authors' defaults are norms, and leaky activations are possible.
        ("res_block_in_norm", stack.get("res_block_in_norm", "layer_norm"), "none"),
        ("res_block_hidden_norm", stack.get("res_block_hidden_norm", "group_norm"), "none"),
        ("activation", stack.get("activation", "relu"), "relu"),
        ("dim_times_res_block_hidden", stack.get("dim_times_res_block_hidden", 1), 1),
    ):
        _same(f"{name}.{key}", found, expected)


def _units(stack: Mapping[str, Any]) -> list[Any]:
    units = stack.get("num_res_blocks", 1)
    return list(units) if isinstance(units, list | tuple) else [units] * _LEVELS


def _taps(layers: Any, blocks: int) -> Any:
    """The blocks that are read: listed, or so many of the last ones."""
    if isinstance(layers, int) and not isinstance(layers, bool) and 0 < layers <= blocks:
        return list(range(blocks - layers, blocks))
    return layers


def _plus_two(width: Any) -> Any:
    return width + 2 if isinstance(width, int) else width


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _same(key: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise _another(key, found, repr(expected))


def _another(key: str, found: Any, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{_WHAT}: model_config.{key} is {str(found)[:80]!r}, in the published networks {expected}"
    )


def _validated(settings: dict[str, Any]) -> Moge2Config:
    try:
        return Moge2Config.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "settings"
        raise CheckpointError(f"{_WHAT}: {key}: {first['msg']} ({str(first['input'])[:80]})") from error
