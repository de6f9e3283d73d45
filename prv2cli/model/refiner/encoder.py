"""The light refiner encoder: any timm pyramid, with the tile's coarse depth as a fourth input channel.

    tile (B, 3, H, W) ─ normalise ─┐
                                   ├─ [space-to-depth] ─ timm features_only ─> levels 1, 2, .. (strides 2s ..)
    coarse depth (B, 1, H, W) ─────┘

Level 0, the tile itself after space-to-depth by s, is no part of the pyramid.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.errors import ConfigError, InputError
from prv2cli.files.text import first_line
from prv2cli.model.config import EncoderConfig
from prv2cli.model.shuffles import pixel_unshuffle
from prv2cli.model.timm_pyramid import create_pyramid


def widen_stem(stem: nn.Conv2d, extra: int = 1) -> nn.Conv2d:
    """A copy of a convolution with `extra` more input channels whose weights are ZERO.

    At the start the widened network computes exactly what the pretrained one did (PRV2 section 3.1). timm's
    own `in_chans=4` rescales the RGB weights instead. The bias is kept.
    """
    if stem.groups != 1:
        raise ValueError(f"only an ungrouped stem can be widened, this one has {stem.groups} groups")
    # A copy keeps the layer's class and settings: timm's Conv2dSame pads by itself.
    wide = copy.deepcopy(stem)
    wide.in_channels += extra
    zeros = stem.weight.new_zeros(stem.out_channels, extra, *stem.kernel_size)
    wide.weight = nn.Parameter(torch.cat([stem.weight.detach(), zeros], dim=1))
    return wide


def _first_convolution(network: nn.Module) -> tuple[nn.Module, str, nn.Conv2d]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            parent = network.get_submodule(name.rpartition(".")[0])
            return parent, name.rpartition(".")[2], module
    raise ValueError("the encoder has no convolution")


class LightEncoder(nn.Module):
    """A timm pyramid whose first level has stride 2 (after space-to-depth), one level per factor of two.

    Attributes:
        channels: of levels 1, 2, ... in order.
        pixel_channels: of the space-to-depth tile that level 0 may look at.
    """

    ENCODER = "network"  # the part with a rate of its own

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, depth_channels: int = 1) -> None:
        super().__init__()
        self.space_to_depth = config.space_to_depth
        self.depth_channels = depth_channels
        self.pixel_channels = (3 + depth_channels) * config.space_to_depth**2
        self.network = self._build(config)
        info = self.network.feature_info
        self.channels: list[int] = list(info.channels())
        self.doubles_first_level = info.reduction()[0] == 4
        if self.doubles_first_level:
            # Networks with a stride-4 stem (ConvNeXt): the authors make the stride-2 level by a transposed
            # convolution.
            self.stride2 = nn.ConvTranspose2d(self.channels[0], self.channels[0] // 2, 2, 2)
            self.channels.insert(0, self.channels[0] // 2)
        mean, std = _input_statistics(self.network)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def _build(self, config: EncoderConfig) -> Any:
        plain_stem = config.space_to_depth == 1
        channels = 3 if plain_stem else self.pixel_channels
        network = _create(config, in_chans=channels, out_indices=_out_indices(config))
        _drop_unused_stages(network)
        if plain_stem:
            parent, name, stem = _first_convolution(network)
            setattr(parent, name, widen_stem(stem, self.depth_channels))
        return network

    def tile(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Normalise and join: (B, 3, H, W) in 0..1 and (B, depth_channels, H, W) -> (B, 3 + depth_channels, H, W)."""
        normalised = torch.addcmul(-self.mean / self.std, rgb, 1 / self.std)
        return torch.cat([normalised, depth], dim=1)

    def pixels(self, tile: Tensor) -> Tensor:
        """The output of `tile` at level 0: (B, .., H/s, W/s), in channels_last memory."""
        if self.space_to_depth > 1:
            return pixel_unshuffle(tile, self.space_to_depth)
        return tile.contiguous(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The output of `pixels` -> feature maps of levels 1, 2, ..."""
        features = list(self.network(pixels))
        if self.doubles_first_level:
            features.insert(0, F.relu(self.stride2(features[0])))
        return features


def _create(config: EncoderConfig, **options: Any) -> Any:
    """The network, with its published weights where they are asked for. Raises InputError where there are none."""
    if not config.pretrained:
        return create_pyramid(config.name, "encoder.name", **options)
    try:
        return create_pyramid(config.name, "encoder.name", pretrained=True, **options)
    except ConfigError:
        raise
    except Exception as error:  # the Hub's client has many
        raise InputError(
            f"encoder.pretrained: the weights of {config.name} cannot be had ({first_line(error)[:200]}); "
            "fill the cache where the Hub can be reached (HF_HOME), or set encoder.pretrained: false"
        ) from error


def _out_indices(config: EncoderConfig) -> tuple[int, ...]:
    """The pyramid levels to ask timm for: as many as configured, one fewer when its first stride is 4."""
    reductions = create_pyramid(config.name, "encoder.name").feature_info.reduction()
    made_here = 1 if reductions[0] == 4 else 0
    available = len(reductions) + made_here
    if not made_here < config.levels <= available:
        raise ConfigError(
            f"encoder.levels: {config.name} gives {made_here + 1} to {available} levels, not {config.levels}"
        )
    return tuple(range(config.levels - made_here))


def _drop_unused_stages(network: nn.Module) -> None:
    """Remove the stages behind the last feature map: timm keeps, runs and would save them."""
    parent_name, _, index = network.feature_info.module_name()[-1].partition(".")  # type: ignore[union-attr, operator]
    parent = getattr(network, parent_name, None)
    if isinstance(parent, nn.Sequential) and index.isdigit():
        setattr(network, parent_name, parent[: int(index) + 1])


def _input_statistics(network: nn.Module) -> tuple[Tensor, Tensor]:
    settings = getattr(network, "pretrained_cfg", None) or {}
    mean = settings.get("mean", (0.485, 0.456, 0.406))
    std = settings.get("std", (0.229, 0.224, 0.225))
    return torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
