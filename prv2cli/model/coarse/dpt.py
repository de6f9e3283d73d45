"""The DPT decoder of Depth Anything V2 and 3: four maps of DINOv2's tokens -> one fused map at the input's size.

four token maps ─ read ─ rescale to strides 3.5, 7, 14, 28 ─ project ─┐
     ┌────────────────────────────────────────────────────────────────┘
     └─ fusion blocks, from the lowest level up ─ reduce ─ at the input's size

DPTNetwork is the DINOv2 that gives those tokens, as both have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.model.coarse.dinov2 import PATCH, create_vit, imagenet_statistics, patch_map, read_tokens
from prv2cli.model.layers import conv3x3, resize


class DPTSize(NamedTuple):
    """One published size: channels of the ViT's tokens, the blocks read; the decoder's width and levels."""

    tokens: int
    taps: tuple[int, int, int, int]
    width: int
    channels: tuple[int, int, int, int]


# Of Depth Anything V2 and of the monocular Depth Anything 3, by the name of the encoder.
SIZES = {
    "vits": DPTSize(384, (2, 5, 8, 11), 64, (48, 96, 192, 384)),
    "vitb": DPTSize(768, (2, 5, 8, 11), 128, (96, 192, 384, 768)),
    "vitl": DPTSize(1024, (4, 11, 17, 23), 256, (256, 512, 1024, 1024)),
}


class ResidualUnit(nn.Module):
    """x + Conv(ReLU(Conv(ReLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class DPTBlock(nn.Module):
    """Add the refined skip, refine, project, up-sample. The lowest block has no previous map to add to."""

    def __init__(self, channels: int, *, lowest: bool) -> None:
        super().__init__()
        self.skip_unit = None if lowest else ResidualUnit(channels)
        self.unit = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, skip: Tensor, previous: Tensor | None, size: Sequence[int]) -> Tensor:
        if self.skip_unit is not None and previous is not None:
            skip = previous + self.skip_unit(skip)
        # The authors project after up-sampling; the two commute and the small map is cheaper.
        return resize(self.project(self.unit(skip)), size, True)


class DPTDecoder(nn.Module):
    """Four token maps -> six feature maps, high resolution first: reduced, four fused levels, the lowest level."""

    def __init__(self, size: DPTSize) -> None:
        super().__init__()
        width, channels = size.width, size.channels
        self.read = nn.ModuleList(nn.Conv2d(size.tokens, c, 1) for c in channels)
        self.rescale = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, 4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, 2),
                nn.Identity(),
                conv3x3(channels[3], channels[3], stride=2),
            ]
        )
        self.levels = nn.ModuleList(conv3x3(c, width, bias=False) for c in channels)
        self.blocks = nn.ModuleList(DPTBlock(width, lowest=k == 3) for k in range(4))
        self.reduce = conv3x3(width, width // 2)

    def forward(self, tokens: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
        """Four (B, C, rows, columns) maps -> the features; the first is at `size`."""
        levels = [
            project(rescale(read(x)))
            for x, read, rescale, project in zip(tokens, self.read, self.rescale, self.levels, strict=True)
        ]
        height, width = levels[0].shape[-2:]
        sizes = [(2 * height, 2 * width), *(level.shape[-2:] for level in levels[:-1])]
        features = [levels[-1]]
        previous: Tensor | None = None
        for k in (3, 2, 1, 0):
            previous = self.blocks[k](levels[k], previous, sizes[k])
            features.append(previous)
        features.append(resize(self.reduce(features[-1]), size, True))
        return features[::-1]


def to_one_channel(width: int) -> list[nn.Module]:
    """The layers from a decoder's reduced map to one value a pixel, without the last activation."""
    return [conv3x3(width // 2, 32), nn.ReLU(), nn.Conv2d(32, 1, 1)]


class DPTNetwork(nn.Module):
    """DINOv2 of a size in SIZES with what reads it: all that the two Depth Anythings have in common but their heads."""

    ENCODER = "vit"  # the part with a rate of its own

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: str) -> None:
        super().__init__()
        self.size = SIZES[encoder]
        self.vit = create_vit(encoder)
        mean, std = imagenet_statistics()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the decoder's six feature maps, high resolution first."""
        return (self.size.width // 2, *(self.size.width for _ in range(5)))

    def read_tokens(self, rgb: Tensor) -> list[Tensor]:
        """The four intermediate layers after the final norm: (B, 1 + patches, C), the class token first.

        Args:
            rgb: (B, 3, h, w) in 0..1, h and w multiples of 14.
        """
        return read_tokens(self.vit, (rgb - self.mean) / self.std, self.size.taps)

    def read_maps(self, rgb: Tensor) -> list[Tensor]:
        """The same of the patches alone, as maps: (B, C, h / 14, w / 14)."""
        rows, columns = rgb.shape[-2] // PATCH, rgb.shape[-1] // PATCH
        return [patch_map(tokens, rows, columns) for tokens in self.read_tokens(rgb)]
