"""Depth Anything V2 under its authors' names, alone or as a coarse branch -> ours.

    convert_dav2      DepthAnythingV2 -> a Dav2Coarse
    convert_dav2_hf   the same network in transformers' layout (repositories whose names end in -hf)

Every name must be known, as in patchrefiner.py; anything else is a CheckpointError. Nothing is read from disk here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

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
from prv2cli.errors import CheckpointError
from prv2cli.model.coarse.dav2 import Dav2Coarse
from prv2cli.model.coarse.dpt import SIZES, DPTSize
from prv2cli.model.config import Dav2Config

HEAD_WIDTH = 64  # channels of one attention head, in every size


def convert_dav2(state: Mapping[str, Tensor], *, max_depth: float) -> tuple[Dav2Config, Tensors]:
    """A metric DepthAnythingV2 state dict -> the configuration and the tensors of a Dav2Coarse.

    Args:
        state: the authors' names -> tensors.
        max_depth: metres; 20 (indoor, Hypersim) or 80 (outdoor, Virtual KITTI): the file does not say.
    """
    what = "Depth Anything V2"
    tensors = rename(state, _DAV2_RULES, what)
    sizes = {size.tokens: name for name, size in SIZES.items()}
    tokens = shape_of(tensors, "vit.cls_token", _DAV2_RULES, 3)[-1]
    if tokens not in sizes:
        raise CheckpointError(f"{what}: tokens of {tokens} channels; known are {sizes}")
    config = Dav2Config.model_validate({"encoder": sizes[tokens], "max_depth": max_depth})
    _check_dav2(tensors, config, _DAV2_RULES, what)
    return config, tensors


def convert_dav2_hf(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[Dav2Config, Tensors]:
    """A metric Depth Anything V2 in transformers' layout -> the configuration and the tensors of a Dav2Coarse.

    The result is the authors' network, not transformers': away from an input of 518 x 518 the two enlarge the
    positional embedding differently (see `resize_positions`), and the weights were trained with the authors' way.

    Args:
        state: the tensors of model.safetensors, of a DepthAnythingForDepthEstimation.
        settings: its config.json; it tells the range, and what shapes do not tell.

    Raises:
        CheckpointError: not a published size of the metric network, or names and shapes as for convert_dav2.
    """
    what = "Depth Anything V2 (transformers' layout)"
    config = _read_dav2_settings(settings, what)
    size = SIZES[config.encoder]
    tensors = rename(state, _DAV2_HF_RULES, what)
    for block in range(size.taps[-1] + 1):
        _join_attention(tensors, f"vit.blocks.{block}.attn", size.tokens, what)
    _check_dav2(tensors, config, _DAV2_HF_RULES, what)
    return config, tensors


def _check_dav2(tensors: Tensors, config: Dav2Config, rules: Rules, what: str) -> None:
    with torch.device("meta"):
        expected = floating(Dav2Coarse(config))
    check(tensors, expected, rules, what)


def _read_dav2_settings(settings: Mapping[str, Any], what: str) -> Dav2Config:
    """Size and range from a config.json. Left-out keys have transformers' defaults."""
    if settings.get("model_type") != "depth_anything":
        raise CheckpointError(f"{what}: config.json is of model_type {settings.get('model_type')!r}")
    kind = settings.get("depth_estimation_type", "relative")
    if kind != "metric":
        raise CheckpointError(
            f"{what}: a model of depth_estimation_type {kind!r} gives no metres; "
            "run it through transformers: --coarse hf:org/name"
        )
    max_depth, backbone = settings.get("max_depth"), settings.get("backbone_config")
    if not isinstance(max_depth, int | float) or not 0 < max_depth < math.inf:
        raise CheckpointError(f"{what}: max_depth in config.json must be metres, got {max_depth!r}")
    if not isinstance(backbone, dict):
        raise CheckpointError(f"{what}: config.json has no backbone_config")
    names = {size.tokens: name for name, size in SIZES.items()}
    tokens = backbone.get("hidden_size", 768)
    if not isinstance(tokens, int) or tokens not in names:
        raise CheckpointError(f"{what}: backbone_config.hidden_size is {tokens!r}; known are {names}")
    _check_backbone(backbone, SIZES[names[tokens]], what)
    return Dav2Config.model_validate({"encoder": names[tokens], "max_depth": float(max_depth)})


def _check_backbone(backbone: Mapping[str, Any], size: DPTSize, what: str) -> None:
    """What the tensors' shapes do not tell: above all the blocks that are read, for version 1 reads others."""
    stages = [tap + 1 for tap in size.taps]  # stage n is what block n - 1 gives
    by_index = backbone.get("out_indices") is not None
    expected = {
        "model_type": ("dinov2", None),
        "num_attention_heads": (size.tokens // HEAD_WIDTH, 12),
        "hidden_act": ("gelu", "gelu"),
        "layer_norm_eps": (1e-6, 1e-6),
        "out_indices" if by_index else "out_features": (
            stages if by_index else [f"stage{stage}" for stage in stages],
            None,
        ),
    }
    for key, (value, default) in expected.items():
        if (found := backbone.get(key, default)) != value:
            raise CheckpointError(
                f"{what}: backbone_config.{key} is {found!r}, in the published networks {value!r}; "
                "run it through transformers: --coarse hf:org/name"
            )


def _join_attention(tensors: Tensors, attention: str, tokens: int, what: str) -> None:
    """Three matrices (and biases) of a block's attention -> timm's one: queries, keys, values."""
    for leaf, shape in (("weight", (tokens, tokens)), ("bias", (tokens,))):
        names = [f"{attention}.{part}.{leaf}" for part in ("query", "key", "value")]
        refuse([original(n, _DAV2_HF_RULES) for n in names if n not in tensors], "missing", what)
        for name in names:
            check_shape(name, tensors[name], shape, _DAV2_HF_RULES, what)
        tensors[f"{attention}.qkv.{leaf}"] = torch.cat([tensors.pop(name) for name in names])


def dpt_rules(theirs: str, *, lowest_reads: Literal["one unit", "both units"]) -> dict[str, str | None]:
    """A DPT head under the authors' names, but for the layers behind its last block."""
    scratch = f"{theirs}.scratch"
    rules: dict[str, str | None] = {
        f"{theirs}.projects": "head.read",
        f"{theirs}.resize_layers": "head.rescale",
        f"{scratch}.output_conv1": "head.reduce",
    }
    for k in range(4):
        block, ours = f"{scratch}.refinenet{k + 1}", f"head.blocks.{k}"
        lowest = k == 3 and lowest_reads == "one unit"
        rules[f"{scratch}.layer{k + 1}_rn"] = f"head.levels.{k}"
        rules[f"{block}.out_conv"] = f"{ours}.project"
        rules |= _dpt_unit_rules(f"{block}.resConfUnit", "conv", ours, lowest=lowest)
    return rules


def _dav2_rules() -> Rules:
    return dpt_rules("depth_head", lowest_reads="one unit") | {
        "pretrained.mask_token": None,  # for training DINOv2
        "pretrained": "vit",
        "depth_head.scratch.output_conv2": "head.to_depth",
        "depth_head.scratch.refinenet4.resConfUnit1": None,  # the lowest block has no previous map
    }


def _dpt_unit_rules(
    their_unit: str, their_conv: str, our_block: str, *, lowest: bool
) -> dict[str, str | None]:
    """The two residual units of a DPT block; the lowest block reads only its second."""
    return {
        f"{their_unit}{number}.{their_conv}{k}": f"{our_block}.{unit}.{conv}"
        for number, unit in ((1, "skip_unit"), (2, "unit"))
        for k, conv in ((1, "first"), (2, "second"))
        if not (lowest and number == 1)
    }


def _dav2_hf_rules() -> Rules:
    fusion, reassemble = "neck.fusion_stage.layers", "neck.reassemble_stage.layers"
    rules: dict[str, str | None] = {
        "backbone.embeddings.mask_token": None,  # for training DINOv2
        "backbone.embeddings.cls_token": "vit.cls_token",
        "backbone.embeddings.position_embeddings": "vit.pos_embed",
        "backbone.embeddings.patch_embeddings.projection": "vit.patch_embed.proj",
        "backbone.layernorm": "vit.norm",
        f"{fusion}.0.residual_layer1": None,  # the lowest block has no previous map
        "head.conv1": "head.reduce",
        "head.conv2": "head.to_depth.0",
        "head.conv3": "head.to_depth.2",
    }
    for block in range(max(size.taps[-1] for size in SIZES.values()) + 1):
        theirs, ours = f"backbone.encoder.layer.{block}", f"vit.blocks.{block}"
        rules |= {
            f"{theirs}.attention.attention": f"{ours}.attn",  # query, key, value: joined afterwards
            f"{theirs}.attention.output.dense": f"{ours}.attn.proj",
            f"{theirs}.layer_scale1.lambda1": f"{ours}.ls1.gamma",
            f"{theirs}.layer_scale2.lambda1": f"{ours}.ls2.gamma",
        }
        rules |= {f"{theirs}.{part}": f"{ours}.{part}" for part in ("norm1", "norm2", "mlp")}
    for k in range(4):
        theirs, ours = f"{fusion}.{3 - k}", f"head.blocks.{k}"  # theirs begin with the lowest
        rules[f"{reassemble}.{k}.projection"] = f"head.read.{k}"
        rules[f"{reassemble}.{k}.resize"] = f"head.rescale.{k}"
        rules[f"neck.convs.{k}"] = f"head.levels.{k}"
        rules[f"{theirs}.projection"] = f"{ours}.project"
        rules |= _dpt_unit_rules(f"{theirs}.residual_layer", "convolution", ours, lowest=k == 3)
    return rules


_DAV2_RULES = _dav2_rules()
_DAV2_HF_RULES = _dav2_hf_rules()
