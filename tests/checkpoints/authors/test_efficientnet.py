"""EfficientNet-Lite's weights under the names of efficientnet_lite_pytorch."""

from __future__ import annotations

import torch

from prv2cli.checkpoints.authors.efficientnet import has_their_names, to_timm
from prv2cli.model.timm_pyramid import import_timm

# Of Lite0, block by block: kernel, expansion, channels (https://arxiv.org/abs/1905.11946, table 1, depth and width 1).
STAGES = [
    (3, 1, 16, 1),
    (3, 6, 24, 2),
    (5, 6, 40, 2),
    (3, 6, 80, 3),
    (5, 6, 112, 3),
    (5, 6, 192, 4),
    (3, 6, 320, 1),
]


def published() -> dict[str, torch.Tensor]:
    """Tensors of the published names and shapes; each block's are filled with its number."""
    tensors = {
        "_conv_stem.weight": torch.zeros(32, 3, 3, 3),
        "_conv_head.weight": torch.zeros(1280, 320, 1, 1),
    }
    tensors |= _norm("_bn0", 32) | _norm("_bn1", 1280) | {"_fc.weight": torch.zeros(1000, 1280)}
    channels, number = 32, 0
    for kernel, expansion, width, repeats in STAGES:
        for _ in range(repeats):
            block, inner = f"_blocks.{number}", channels * expansion
            if expansion > 1:
                tensors[f"{block}._expand_conv.weight"] = torch.full((inner, channels, 1, 1), number)
                tensors |= _norm(f"{block}._bn0", inner)
            tensors[f"{block}._depthwise_conv.weight"] = torch.full((inner, 1, kernel, kernel), number)
            tensors[f"{block}._project_conv.weight"] = torch.full((width, inner, 1, 1), number)
            tensors |= _norm(f"{block}._bn1", inner) | _norm(f"{block}._bn2", width)
            channels, number = width, number + 1
    return tensors


def _norm(name: str, channels: int) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{leaf}": torch.zeros(channels) for leaf in ("weight", "bias", "running_mean", "running_var")
    }


def test_every_tensor_of_the_pyramid_is_found() -> None:
    theirs = published()
    assert has_their_names(theirs)
    ours = to_timm(theirs)
    assert not has_their_names(ours)
    network = import_timm().create_model("tf_efficientnet_lite0", features_only=True)
    wanted = {name: t.shape for name, t in network.state_dict().items() if t.is_floating_point()}
    assert {name: tensor.shape for name, tensor in ours.items()} == wanted
    assert ours["blocks.5.2.conv_pwl.weight"].unique().tolist() == [13]
    assert ours["blocks.0.0.conv_pw.weight"].unique().tolist() == [0]
