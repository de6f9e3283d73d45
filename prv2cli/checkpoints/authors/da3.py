"""Monocular Depth Anything 3 as its authors publish it (config.json and model.safetensors) -> a Da3Coarse.

DA3METRIC-LARGE and DA3MONO-LARGE have the same tensors and the same configuration: only the name in config.json tells
metres from depth up to scale and offset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prv2cli.checkpoints.authors.dav2 import dpt_rules
from prv2cli.checkpoints.authors.rename import Rules, Tensors, check, floating, rename, shape_of
from prv2cli.errors import CheckpointError
from prv2cli.files.text import first_line
from prv2cli.model.coarse.da3 import Da3Coarse
from prv2cli.model.coarse.dpt import SIZES
from prv2cli.model.config import Da3Config

_PREFIX = "model."
_WHAT = "Depth Anything 3"
_HEAD_DEFAULTS = {
    "activation": "exp",
    "use_sky_head": True,
    "sky_activation": "relu",
    "use_ln_for_heads": False,
    "norm_type": "idt",
    "pos_embed": False,
    "down_ratio": 1,
}
_OFF = -1  # of what only the any-view networks have


def has_da3_names(names: Iterable[str]) -> bool:
    """Whether a state dict has names of Depth Anything 3's, whole or not."""
    return any(name.removeprefix(_PREFIX).startswith("backbone.pretrained.") for name in names)


def is_da3(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of Depth Anything 3's, of whatever kind."""
    return isinstance(settings.get("config"), dict) and "da3" in str(settings.get("model_name")).lower()


def reads_metres(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json is the metric network's.

    Raises CheckpointError: it is neither the metric's nor the monocular one's, or describes another architecture.
    """
    name = str(settings.get("model_name")).lower()
    if "metric" not in name and "mono" not in name:
        raise CheckpointError(
            f"{_WHAT}: config.json is of {settings.get('model_name')!r}; of this family prv2 reads da3metric and "
            "da3mono, which take one photograph"
        )
    _check_architecture(settings["config"])
    return "metric" in name


def metres_of_file(weights: Path) -> bool:
    """reads_metres of the config.json beside a file of weights. Raises CheckpointError: there is none to be read."""
    path = weights.with_name("config.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{_WHAT}: only its config.json tells metres from relative depth, and {path} cannot be read "
            f"({first_line(error)}); put it beside the weights"
        ) from error
    if not isinstance(settings, dict) or not is_da3(settings):
        raise CheckpointError(f"{_WHAT}: {path} is another network's")
    return reads_metres(settings)


def _check_architecture(config: Mapping[str, Any]) -> None:
    net, head = config.get("net"), config.get("head")
    if not isinstance(net, dict) or not isinstance(head, dict) or str(net.get("name")) not in SIZES:
        raise CheckpointError(f"{_WHAT}: config.json describes no network of this family")
    size = SIZES[net["name"]]
    described = (
        ("net.out_layers", net.get("out_layers"), list(size.taps)),
        ("net.alt_start", net.get("alt_start", _OFF), _OFF),
        ("net.qknorm_start", net.get("qknorm_start", _OFF), _OFF),
        ("net.rope_start", net.get("rope_start", _OFF), _OFF),
        ("net.cat_token", net.get("cat_token", True), False),  # the authors' default is True
        ("head.dim_in", head.get("dim_in"), size.tokens),
        ("head.output_dim", head.get("output_dim"), 1),
        ("head.features", head.get("features"), size.width),
        ("head.out_channels", head.get("out_channels"), list(size.channels)),
        *((f"head.{key}", head.get(key, value), value) for key, value in _HEAD_DEFAULTS.items()),
    )
    for key, found, expected in described:
        if found != expected:
            raise CheckpointError(
                f"{_WHAT}: config.{key} in config.json is {str(found)[:80]}, in the monocular networks {expected}"
            )


def convert_da3(state: Mapping[str, Tensor], *, metric: bool) -> tuple[Da3Config, Tensors]:
    """A monocular Depth Anything 3 state dict -> the configuration and the tensors of a Da3Coarse.

    Args:
        state: the authors' names -> tensors, with the prefix `model.` of the published files or without.
        metric: whether it is the metric network: its tensors do not tell.

    Raises:
        CheckpointError: a name is unknown or missing, or a shape does not fit.
    """
    if all(name.startswith(_PREFIX) for name in state):
        state = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
    tensors = rename(state, _RULES, _WHAT)
    sizes = {size.tokens: name for name, size in SIZES.items()}
    tokens = shape_of(tensors, "vit.cls_token", _RULES, 3)[-1]
    if tokens not in sizes:
        raise CheckpointError(f"{_WHAT}: tokens of {tokens} channels; known are {sizes}")
    config = Da3Config.model_validate({"encoder": sizes[tokens], "metric": metric})
    with torch.device("meta"):
        expected = floating(Da3Coarse(config))
    check(tensors, expected, _RULES, _WHAT)
    return config, tensors


_RULES: Rules = dpt_rules("head", lowest_reads="both units") | {
    "backbone.pretrained.mask_token": None,  # for training DINOv2; not in the published files
    "backbone.pretrained": "vit",
    "head.scratch.output_conv2": "to_depth",
    "head.scratch.sky_output_conv2": "to_sky",
}
