"""PatchRefiner V2 under its authors' names -> ours, the configuration read from the shapes.

    split_networks         PatchRefinerPlus -> its three networks
    convert_patchrefiner   PatchRefinerPlus: light encoder and fusion networks -> a PatchRefiner
    convert_encoder        LightWeightRefiner alone -> its `encoder.` tensors
    convert_fusion         BiDirectionalFusion alone -> its `c2f.`, `f2c.` and `head.` tensors

dav2.py and zoedepth.py have the same for the coarse branches.

Every name must be known: it is renamed, or it is on a list of what the authors' forward pass never reads.
Anything else, and anything missing or misshapen, is a CheckpointError. Nothing is read from disk here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from prv2cli.checkpoints.authors.rename import Rules, Tensors, check, floating, refuse, rename, shape_of
from prv2cli.errors import CheckpointError
from prv2cli.model.config import C2FConfig, CoarseFeaturesConfig, EncoderConfig, F2CConfig, RefinerConfig
from prv2cli.model.refiner.patchrefiner import PatchRefiner

LEVELS = 5
# Channels of encoder levels 1.. -> the timm network (docs/method.md 2.2); its tag fixes its input's mean and std.
ENCODERS = {
    (32, 32, 64, 96, 960): "mobilenetv4_conv_small.e2400_r224_in1k",
    (24, 40, 64, 176, 512): "tf_efficientnet_b5.ap_in1k",
    (96, 192, 384, 768, 1536): "convnext_large",
}
_STEMS = ("encoder.network.conv_stem.weight", "encoder.network.stem_0.weight")
_ENCODER_PART = "refiner_fine_branch."
_FUSION_PART = "refiner_fusion_model."
_COARSE_PART = "coarse_branch."


class Networks(NamedTuple):
    """The three networks of a PatchRefinerPlus, each under its own names."""

    encoder: Tensors
    fusion: Tensors
    coarse: Tensors


def split_networks(state: Mapping[str, Tensor]) -> Networks:
    """Sort a PatchRefinerPlus state dict by network. Raises CheckpointError for names of no known network."""
    parts: dict[str, Tensors] = {_ENCODER_PART: {}, _FUSION_PART: {}, _COARSE_PART: {}}
    unknown = []
    for name, tensor in state.items():
        prefix = name.partition(".")[0] + "."
        if prefix in parts:
            parts[prefix][name.removeprefix(prefix)] = tensor
        else:
            unknown.append(name)
    refuse(unknown, "unknown", "PatchRefiner V2")
    return Networks(*parts.values())


def convert_patchrefiner(
    state: Mapping[str, Tensor], *, guidance: str = "gated"
) -> tuple[RefinerConfig, Tensors]:
    """A PatchRefinerPlus state dict -> the configuration and the tensors of a PatchRefiner.

    The coarse branch's tensors are left out: `split_networks(state).coarse` and `convert_dav2` are for them.

    Args:
        state: the authors' names -> tensors.
        guidance: "gated" (the paper) or "fused" (its ablation without the gate): shapes do not tell.

    Raises:
        CheckpointError: a name is unknown or missing, a shape does not fit, the encoder is none of ENCODERS.
    """
    parts = split_networks(state)
    config, fusion = convert_fusion(parts.fusion, guidance=guidance)
    return config, convert_encoder(parts.encoder, config) | fusion


def convert_encoder(state: Mapping[str, Tensor], config: RefinerConfig) -> Tensors:
    """A LightWeightRefiner state dict -> the `encoder.` tensors of a PatchRefiner.

    A stem without the coarse depth (after Noisy Pretraining) gets a fourth input channel of zeros (PRV2
    section 3.1).
    """
    tensors = rename(state, _ENCODER_RULES, "the light encoder")
    for name in _STEMS:
        if name in tensors and tensors[name].shape[1] == 3:
            stem = tensors[name]
            tensors[name] = torch.cat([stem, torch.zeros_like(stem[:, :1])], dim=1)
    expected = _part(_expected(config), ("encoder.",))
    check(tensors, expected, _ENCODER_RULES, "the light encoder")
    return tensors


def convert_fusion(state: Mapping[str, Tensor], *, guidance: str = "gated") -> tuple[RefinerConfig, Tensors]:
    """A BiDirectionalFusion state dict -> the configuration and the `c2f.`, `f2c.`, `head.` tensors."""
    what = "the fusion networks"
    tensors = rename(state, _FUSION_RULES, what)
    config = _infer_refiner(tensors, guidance)
    check(tensors, _part(_expected(config), ("c2f.", "f2c.", "head.")), _FUSION_RULES, what)
    return config, tensors


def _encoder_rules() -> Rules:
    return {"refiner_encoder": "encoder.network", "upsample_convx.0": "encoder.stride2"}


def _unit_rules(theirs: str, ours: str) -> dict[str, str | None]:
    parts = {"conv": "residual", "fusion_conv.0": "join", "fusion_conv.1": "norm", "fusion_conv.3": "gate"}
    return {f"{theirs}.{old}": f"{ours}.{new}" for old, new in parts.items()}


def _fusion_rules() -> Rules:
    rules: dict[str, str | None] = {
        "final_conv": "head.to_residual",
        "c2f.scratch.output_conv1": "c2f.reduce",
        "c2f.scratch.output_conv2.0": "c2f.expand",
        "c2f.scratch.output_conv2_fusion.out_conv": "c2f.top_out",
        "c2f.scratch.output_conv3.0": "c2f.to_depth",
        # A fusion block without a previous map reads only its second unit.
        f"c2f.scratch.refinenet{LEVELS}.GateresConfUnit1": None,
        "c2f.scratch.output_conv2_fusion.GateresConfUnit1": None,
    }
    rules |= _unit_rules("c2f.scratch.output_conv2_fusion.GateresConfUnit2", "c2f.top_unit")
    for level in range(LEVELS + 1):
        rules[f"fusion_layers_1.{level}.single_conv"] = f"f2c.join_features.{level}"
        rules[f"fusion_layers_2.{level}.single_conv"] = f"f2c.join_depths.{level}"
    for k in range(LEVELS):
        block = f"c2f.scratch.refinenet{k + 1}"
        rules[f"f2r_agg.{k}.conv.double_conv"] = f"f2c.decoder.{k}"
        rules[f"c2f.scratch.layer{k + 1}_rn"] = f"c2f.project.{k}"
        rules[f"{block}.out_conv"] = f"c2f.to_upper.{k}"
        rules |= _unit_rules(f"{block}.GateresConfUnit2", f"c2f.blocks.{k}.unit")
        if k + 1 < LEVELS:
            rules |= _unit_rules(f"{block}.GateresConfUnit1", f"c2f.blocks.{k}.skip_unit")
    return rules


_ENCODER_RULES = _encoder_rules()
_FUSION_RULES = _fusion_rules()


def _infer_refiner(tensors: Tensors, guidance: str) -> RefinerConfig:
    """The configuration of the authors' refiner, from the shapes of its (renamed) fusion tensors."""

    def channels(name: str) -> tuple[int, int]:
        shape = shape_of(tensors, name, _FUSION_RULES, 4)
        return shape[1], shape[0]  # of a convolution: in, out

    projections = [channels(f"c2f.project.{k}.weight") for k in range(LEVELS)]
    encoder = tuple(inputs for inputs, _ in projections)
    if encoder not in ENCODERS:
        raise CheckpointError(
            f"no known light encoder has the channels {encoder}; known are {list(ENCODERS)}"
        )
    c2f_widths = (channels("c2f.expand.weight")[1], *(outputs for _, outputs in projections))
    joins = [channels(f"f2c.join_features.{k}.0.weight") for k in range(LEVELS + 1)]
    decoder = [channels(f"f2c.decoder.{k}.2.weight")[1] for k in range(LEVELS)]
    gated = any(name.startswith("c2f.top_unit.join") for name in tensors)
    return RefinerConfig.model_validate(
        {
            "depth_space": "metres",
            "align_corners": True,
            "coarse": CoarseFeaturesConfig(
                kind="external", channels=tuple(j[0] - w for j, w in zip(joins, c2f_widths, strict=True))
            ),
            "encoder": EncoderConfig(name=ENCODERS[encoder], levels=LEVELS),
            "c2f": {**C2FConfig(widths=c2f_widths).model_dump(), "guidance": guidance if gated else "none"},
            "f2c": F2CConfig(widths=tuple(j[1] for j in joins), decoder_widths=tuple(decoder[::-1])),
        }
    )


def _expected(config: RefinerConfig) -> Tensors:
    with torch.device("meta"):  # names and shapes only: no memory, no initialisation
        return floating(PatchRefiner(config))


def _part(tensors: Tensors, prefixes: tuple[str, ...]) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
