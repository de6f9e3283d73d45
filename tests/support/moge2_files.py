"""MoGe-2 checkpoints in their authors' layout, of a network whose answer is known: a wall, and sky above it.

All weights are 0, but for those that pass positions on the picture through: at distance k from the centre, in half
diagonals, x and y are k / focal times z. So the camera of the points is `focal`, without a shift.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prv2cli.checkpoints.authors import moge2
from prv2cli.checkpoints.authors.rename import original
from prv2cli.model.coarse.dinov2 import IMAGENET_MEAN, IMAGENET_STD
from prv2cli.model.coarse.moge2 import Moge2Coarse
from prv2cli.model.config import Moge2Config

WIDTHS = (16, 12, 8, 8, 8)
TOKENS = (24, 24)
STEEP = 200.0  # of the validity, per half diagonal: the horizon is a fraction of a cell wide


@dataclass(frozen=True)
class Wall:
    """z of the points and metres per unit, so a depth of z * scale; focal in half diagonals; horizon: v of the sky."""

    z: float = 2.5
    scale: float = 1.6
    focal: float = 1.25
    horizon: float | None = -0.2
    normals: bool = True

    @property
    def depth(self) -> float:
        return self.z * self.scale


def published(wall: Wall) -> dict[str, Any]:
    """What `model.pt` holds."""
    config = Moge2Config(widths=WIDTHS, tokens=TOKENS, normals=wall.normals)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in Moge2Coarse(config).state_dict().items()}
    _pass_positions(tensors, wall)
    state = {original(name, moge2._RULES): tensor for name, tensor in tensors.items()}
    state["encoder.backbone.mask_token"] = torch.zeros(1, 384)
    state["encoder.image_mean"] = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    state["encoder.image_std"] = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return {"model_config": settings(config), "model": state}


def _pass_positions(tensors: dict[str, Tensor], wall: Wall) -> None:
    """Set the weights that matter, of the last level."""
    for stack in ("neck", "points", "validity"):
        channels = tensors[f"{stack}.inputs.4.weight"]
        channels[0, 0] = channels[1, 1] = 1  # u and v stay in channels 0 and 1
    points = tensors["points.output.weight"]
    points[0, 0] = points[1, 1] = 1 / wall.focal
    tensors["points.output.bias"][2] = math.log(wall.z)
    if wall.horizon is None:
        tensors["validity.output.bias"][0] = STEEP
    else:
        tensors["validity.output.weight"][0, 1] = STEEP
        tensors["validity.output.bias"][0] = -STEEP * wall.horizon
    if "normals.output.bias" in tensors:
        tensors["normals.output.bias"][2] = -3.0  # towards the camera
    tensors["scale.4.bias"][0] = math.log(wall.scale)


def settings(config: Moge2Config) -> dict[str, Any]:
    """The `model_config` of a configuration."""
    widths, levels = list(config.widths), len(config.widths)

    def stack(inputs: list[int], units: tuple[int, ...], outputs: int | None) -> dict[str, Any]:
        return {
            "dim_in": inputs,
            "dim_out": None if outputs is None else [None] * (levels - 1) + [outputs],
            "dim_res_blocks": widths,
            "num_res_blocks": list(units),
            "res_block_in_norm": "none",
            "res_block_hidden_norm": "none",
            "resamplers": ["conv_transpose"] * (levels - 2) + ["bilinear"],
        }

    heads = {"points_head": 3, "mask_head": 1, **({"normal_head": 3} if config.normals else {})}
    return {
        "encoder": {
            "backbone": f"dinov2_{config.encoder}14",
            "intermediate_layers": list(config.taps),
            "dim_out": widths[0],
        },
        "neck": stack([widths[0] + 2, 2, 2, 2, 2], config.neck_units, None),
        **{name: stack(widths, config.head_units, channels) for name, channels in heads.items()},
        "scale_head": {"dims": [384, widths[0], widths[0], 1]},
        "remap_output": config.remap,
        "num_tokens_range": list(config.tokens),
    }


def as_bytes(content: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()
