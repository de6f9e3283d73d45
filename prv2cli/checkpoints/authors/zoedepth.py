"""ZoeDepth under the names of its authors' code (with MiDaS v3.1, on timm's BEiT) -> transformers' names.

    MiDaS core:  BEiT blocks, readout and reassembly, layerN_rn, refinenetN, output_conv
    metric head: conv2, seed_bin_regressor, seed_projector, projectors, attractors, conditional_log_binomial

The sizes are read from the shapes. What shapes do not tell is the same in all published networks: the blocks that
are read (at each quarter of the depth), the epsilon of the norms, the temperatures. The settings' names of the
attractors' strength are not copied: the authors' code never passes it on, and neither does transformers'.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from prv2cli.checkpoints.authors.rename import (
    Rules,
    Tensors,
    check,
    check_shape,
    floating,
    original,
    refuse,
    rename,
    shape_of,
)
from prv2cli.errors import CheckpointError, UsageError
from prv2cli.model.coarse.zoedepth import ZoeDepthCoarse
from prv2cli.model.config import ZoeDepthConfig

# Names that only this network has: its core, its metric head, and the head of the network with two of them.
ZOEDEPTH = ("core.core.", "conditional_log_binomial.", "seed_bin_regressor.", "seed_bin_regressors.")
SIZES = {"softplus": (384, 512), "normed": (384, 768)}  # height, width at which each kind of bins was trained

_TWO_HEADS = ("seed_bin_regressors.", "patch_transformer.", "mlp_classifier.")
_WHAT = "ZoeDepth"
_PATCH = 16
_LEVELS = 4
_ATTRACTORS = (16, 8, 4, 1)  # per level, in every published network
_CORE, _VIT, _OURS = "core.core", "core.core.pretrained.model", "network"
_BEIT = f"{_OURS}.backbone.beit"
_TABLE = "relative_position_bias.relative_position_bias_table"
_BLOCK = re.compile(rf"{re.escape(_VIT)}\.blocks\.(\d+)\.")


def convert_zoedepth(
    state: Mapping[str, Tensor], *, max_depth: float | None = None
) -> tuple[ZoeDepthConfig, Tensors]:
    """A state dict of the authors' ZoeDepth with one metric head -> the configuration and tensors of a ZoeDepthCoarse.

    Args:
        state: the authors' names -> tensors.
        max_depth: metres, for bins within a range (bin_centers_type normed, as in the KITTI network): no file says
            it. Bins without a range (softplus, as in the NYU network and in PatchRefiner) have no use for it.

    Raises:
        CheckpointError: a name is unknown or missing, a shape does not fit, or it has two heads.
        UsageError: max_depth is missing, or given for bins without a range.
        MissingExtraError: without transformers, which builds the network that the tensors must fit.
    """
    if any(name.startswith(_TWO_HEADS) for name in state):
        raise CheckpointError(
            "a ZoeDepth with two heads (NYU and KITTI), which cannot be converted; "
            "use the published one with: --coarse zoedepth"
        )
    depth = len({found[1] for found in map(_BLOCK.match, state) if found})
    rules = _rules(depth)
    tensors = rename(state, rules, _WHAT)
    settings = _read_settings(tensors, depth, max_depth, rules)
    config = ZoeDepthConfig(transformers=settings, input_size=SIZES[settings["bin_centers_type"]])
    for block in range(depth):
        _split_attention(tensors, f"{_BEIT}.layers.{block}.attention", rules)
    with torch.device("meta"):  # names and shapes only
        expected = floating(ZoeDepthCoarse(config))
    check(tensors, expected, rules, _WHAT)
    return config, tensors


def channels(config: ZoeDepthConfig) -> tuple[int, ...]:
    """Of the six feature maps of a converted network, high resolution first."""
    settings = config.transformers
    fused = _LEVELS * (settings["fusion_hidden_size"],)
    return (settings["num_relative_features"], *fused, settings["bottleneck_features"])


def bounded_depth(config: ZoeDepthConfig) -> float | None:
    """Metres, the upper end of a converted network's bins; None where they have no range."""
    settings = config.transformers
    bins = settings["bin_configurations"][0]
    return float(bins["max_depth"]) if settings["bin_centers_type"] == "normed" else None


def _rules(depth: int) -> Rules:
    return _backbone_rules(depth) | _decoder_rules() | _head_rules()


def _backbone_rules(depth: int) -> dict[str, str | None]:
    rules: dict[str, str | None] = {
        f"{_VIT}.cls_token": f"{_BEIT}.embeddings.cls_token",
        f"{_VIT}.patch_embed.proj": f"{_BEIT}.embeddings.patch_embeddings.projection",
        f"{_VIT}.fc_norm": None,  # of BEiT's classifier
        f"{_VIT}.head": None,
    }
    parts = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "mlp": "mlp",
        "gamma_1": "lambda_1",
        "gamma_2": "lambda_2",
        "attn.qkv": "attention.qkv",  # split afterwards
        "attn.q_bias": "attention.q_proj.bias",
        "attn.v_bias": "attention.v_proj.bias",
        "attn.proj": "attention.o_proj",
        "attn.relative_position_bias_table": _TABLE,
    }
    for block in range(depth):
        theirs, ours = f"{_VIT}.blocks.{block}", f"{_BEIT}.layers.{block}"
        rules |= {f"{theirs}.{old}": f"{ours}.{new}" for old, new in parts.items()}
        rules[f"{theirs}.attn.relative_position_index"] = None  # follows from the window's size
    return rules


def _decoder_rules() -> dict[str, str | None]:
    scratch, reassemble = f"{_CORE}.scratch", f"{_OURS}.neck.reassemble_stage"
    rules: dict[str, str | None] = {
        f"{scratch}.output_conv.{position}": f"{_OURS}.relative_head.conv{number}"
        for number, position in ((1, 0), (2, 2), (3, 4))
    }
    for k in range(_LEVELS):
        level = f"{_CORE}.pretrained.act_postprocess{k + 1}"
        rules[f"{level}.0.project.0"] = f"{reassemble}.readout_projects.{k}.0"
        rules[f"{level}.3"] = f"{reassemble}.layers.{k}.projection"
        rules[f"{level}.4"] = f"{reassemble}.layers.{k}.resize"
        rules[f"{scratch}.layer{k + 1}_rn"] = f"{_OURS}.neck.convs.{k}"
        theirs = f"{scratch}.refinenet{k + 1}"
        ours = f"{_OURS}.neck.fusion_stage.layers.{_LEVELS - 1 - k}"  # these begin with the lowest
        rules[f"{theirs}.out_conv"] = f"{ours}.projection"
        for unit in (1, 2):
            for conv in (1, 2):
                rules[f"{theirs}.resConfUnit{unit}.conv{conv}"] = (
                    f"{ours}.residual_layer{unit}.convolution{conv}"
                )
    return rules


def _head_rules() -> dict[str, str | None]:
    head, binomial = f"{_OURS}.metric_head", "conditional_log_binomial"
    rules: dict[str, str | None] = {
        "conv2": f"{head}.conv2",
        f"{binomial}.mlp": f"{head}.{binomial}.mlp",
        f"{binomial}.log_binomial_transform": None,  # constants that follow from the number of bins
    }
    levels = [f"{part}.{k}" for part in ("projectors", "attractors") for k in range(_LEVELS)]
    for part in ("seed_bin_regressor", "seed_projector", *levels):
        rules |= {f"{part}._net.{2 * k}": f"{head}.{part}.conv{k + 1}" for k in (0, 1)}
    return rules


def _read_settings(tensors: Tensors, depth: int, max_depth: float | None, rules: Rules) -> dict[str, Any]:
    """transformers' settings, from the shapes of the (renamed) tensors."""

    def outputs(name: str) -> int:
        return shape_of(tensors, f"{_OURS}.{name}", rules, 4)[0]

    head = "metric_head"
    kind = _bin_kind([outputs(f"{head}.attractors.{k}.conv2.weight") for k in range(_LEVELS)])
    return {
        "model_type": "zoedepth",
        "backbone_config": _backbone_settings(tensors, depth, rules),
        "readout_type": "project",
        "neck_hidden_sizes": [
            outputs(f"neck.reassemble_stage.layers.{k}.projection.weight") for k in range(_LEVELS)
        ],
        "fusion_hidden_size": outputs("neck.convs.0.weight"),
        "num_relative_features": outputs("relative_head.conv2.weight"),
        "bottleneck_features": outputs(f"{head}.conv2.weight"),
        "bin_embedding_dim": outputs(f"{head}.seed_projector.conv2.weight"),
        "num_attractors": list(_ATTRACTORS),
        "attractor_kind": "mean",
        "min_temp": 0.0212,
        "max_temp": 50.0,
        "bin_centers_type": kind,
        "bin_configurations": [
            {
                "n_bins": outputs(f"{head}.seed_bin_regressor.conv2.weight"),
                "min_depth": 1e-3,
                "max_depth": _range(kind, max_depth),
            }
        ],
    }


def _backbone_settings(tensors: Tensors, depth: int, rules: Rules) -> dict[str, Any]:
    tokens = shape_of(tensors, f"{_BEIT}.embeddings.cls_token", rules, 3)[-1]
    if depth == 0 or depth % _LEVELS:
        raise CheckpointError(f"{_WHAT}: a BEiT of {depth} blocks, which cannot be read at each quarter")
    distances, heads = shape_of(tensors, f"{_BEIT}.layers.0.{_TABLE}", rules, 2)
    # Of a window of n x n patches: (2n - 1)^2 distances, and three for the class token.
    side = math.isqrt(max(0, distances - 3))
    if side * side != distances - 3 or side % 2 == 0:
        table = original(f"{_BEIT}.layers.0.{_TABLE}", rules)
        raise CheckpointError(f"{_WHAT}: tensor {table} of {distances} distances is of no square window")
    return {
        "model_type": "beit",
        "image_size": (side + 1) // 2 * _PATCH,
        "patch_size": _PATCH,
        "hidden_size": tokens,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": shape_of(tensors, f"{_BEIT}.layers.0.mlp.fc1.weight", rules, 2)[0],
        "layer_norm_eps": 1e-6,
        "drop_path_rate": 0.0,
        "use_relative_position_bias": True,
        "reshape_hidden_states": False,
        "out_features": [f"stage{depth * (k + 1) // _LEVELS}" for k in range(_LEVELS)],
    }


def _bin_kind(counts: list[int]) -> str:
    """Attractors of bins within a range are made of two numbers each (their sum has no effect, by a slip)."""
    if counts == list(_ATTRACTORS):
        return "softplus"
    if counts == [2 * count for count in _ATTRACTORS]:
        return "normed"
    raise CheckpointError(
        f"{_WHAT}: its attractors have {counts} outputs; known are {list(_ATTRACTORS)} (softplus bins) and twice "
        "as many (normed bins)"
    )


def _range(kind: str, max_depth: float | None) -> float:
    """The upper end of the bins, metres."""
    if kind == "normed":
        if max_depth is None:
            raise UsageError(
                "its ZoeDepth has bins within a range and does not say which; add --max-depth: 80 for the KITTI one"
            )
        return max_depth
    if max_depth is not None:
        raise UsageError("its ZoeDepth has bins without a range, so --max-depth has no meaning; leave it out")
    return 10.0  # transformers wants a number there and never reads it


def _split_attention(tensors: Tensors, attention: str, rules: Rules) -> None:
    """timm's one matrix of queries, keys and values -> three. The keys have no bias."""
    joined = f"{attention}.qkv.weight"
    refuse([original(joined, rules)] if joined not in tensors else [], "missing", _WHAT)
    tokens = tensors[f"{_BEIT}.embeddings.cls_token"].shape[-1]
    check_shape(joined, tensors[joined], (3 * tokens, tokens), rules, _WHAT)
    for part, weight in zip(("q_proj", "k_proj", "v_proj"), tensors.pop(joined).chunk(3), strict=True):
        tensors[f"{attention}.{part}.weight"] = weight.clone()
