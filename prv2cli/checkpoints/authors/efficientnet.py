"""EfficientNet-Lite's weights under the names of the package efficientnet_lite_pytorch -> timm's names.

_conv_stem, _bn0                                              conv_stem, bn1
_blocks.N._expand_conv _bn0 _depthwise_conv _bn1 _project_conv _bn2
                                                              blocks.S.K.conv_pw bn1 conv_dw bn2 conv_pwl bn3
block 0, without _expand_conv                                 blocks.0.0.conv_dw bn1 conv_pw bn2
"""

from __future__ import annotations

import re

from torch import Tensor

_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(.+)")
_PARTS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PARTS_WITHOUT_EXPANSION = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def has_their_names(tensors: dict[str, Tensor]) -> bool:
    """Whether these are weights under the package's names."""
    return "_conv_stem.weight" in tensors


def to_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under timm's names, without the classifier.

    A stage of timm's ends where the number of channels that blocks give changes.
    """
    renamed: dict[str, Tensor] = {}
    place = _places(tensors)
    for name, tensor in tensors.items():
        if found := _BLOCK.fullmatch(name):
            number, part, leaf = int(found[1]), found[2], found[3]
            expands = f"_blocks.{number}._expand_conv.weight" in tensors
            parts = _PARTS if expands else _PARTS_WITHOUT_EXPANSION
            if part in parts:
                stage, index = place[number]
                renamed[f"blocks.{stage}.{index}.{parts[part]}.{leaf}"] = tensor
        elif name.startswith(("_conv_stem.", "_bn0.")):
            renamed[name.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1")] = tensor
    return renamed


def _places(tensors: dict[str, Tensor]) -> dict[int, tuple[int, int]]:
    """Number of a block -> its stage, and its place there."""
    places: dict[int, tuple[int, int]] = {}
    stage, index, channels = -1, 0, -1
    number = 0
    while (weight := tensors.get(f"_blocks.{number}._project_conv.weight")) is not None:
        if weight.shape[0] != channels:
            stage, index, channels = stage + 1, 0, weight.shape[0]
        places[number] = (stage, index)
        number, index = number + 1, index + 1
    return places
