"""Small networks that make the mistakes of large depth networks, on procedural scenes.

    photograph, reduced (B, 3, s, s) ───────────────┐
    truth at 1/12 to 1/32, enlarged (B, 1, s, s) ───┴─ network ─ added to the blurred truth ─> map (B, 1, s, s)

The blurred truth gives the geometry that a small network could not find; edges, thin parts and creases it must take
from the photograph, and gets them wrong as networks do: fat or lost thin parts, merged gaps, silhouettes that wander.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.model.layers import Gelu, conv3x3, resize
from prv2cli.model.timm_pyramid import create_pyramid

INPUTS = 4  # red, green, blue, blurred truth


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layers = [conv3x3(inputs, outputs, bias=False, stride=stride), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, conv3x3(outputs, outputs, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Encoder and decoder with skips at every scale: silhouettes to the pixel of its input, thin parts now and then."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width, 4 * width]
        self.down = nn.ModuleList(
            _block(i, o, 1 if k == 0 else 2)
            for k, (i, o) in enumerate(zip([INPUTS, *widths[:-1]], widths, strict=True))
        )
        self.up = nn.ModuleList(
            _block(below + skip, skip) for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.out = conv3x3(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        for level, skip in zip(self.up, skips[-2::-1], strict=True):
            x = level(torch.cat([resize(x, skip.shape[-2:], False), skip], dim=1))
        return self.out(x)


class Pyramid(nn.Module):
    """A timm encoder and a top-down decoder that ends at half its input's size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = create_pyramid("mobilenetv4_conv_small", "imitator", in_chans=INPUTS)
        self.skips = nn.ModuleList(nn.Conv2d(c, width, 1) for c in self.network.feature_info.channels())
        self.mixes = nn.ModuleList(_block(width, width) for _ in self.skips)
        self.out = conv3x3(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        size, below = x.shape[-2:], None
        for feature, skip, mix in zip(
            self.network(x)[::-1], list(self.skips)[::-1], list(self.mixes)[::-1], strict=True
        ):
            here = skip(feature)
            below = mix(here if below is None else here + resize(below, here.shape[-2:], False))
        return resize(self.out(below), size, False)


class Smooth(nn.Module):
    """Dilated convolutions at a quarter of its input's size, enlarged without skips: soft, fat, without thin parts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = conv3x3(16 * INPUTS, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=d, dilation=d))
            for d in (1, 2, 4, 8, 1, 2, 4, 1)
        )
        self.out = conv3x3(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        x = self.enter(F.pixel_unshuffle(x, 4))
        for layer in self.layers:
            x = x + layer(x)
        return resize(self.out(x), size, False)


class Patches(nn.Module):
    """Patches of 8 x 8 mixed as in a transformer, then enlarged by convolutions, as DPT does; for validation alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(INPUTS, width, 8, 8)
        self.spaces = nn.ModuleList(nn.Conv2d(width, width, 7, padding=3, groups=width) for _ in range(6))
        self.mixes = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width),
                nn.Conv2d(width, 2 * width, 1),
                Gelu(),
                nn.Conv2d(2 * width, width, 1),
            )
            for _ in self.spaces
        )
        self.enlarge = nn.ModuleList(nn.Sequential(conv3x3(i, i // 2), Gelu()) for i in (width, width // 2))
        self.detail = nn.Conv2d(INPUTS, width // 4, 5, 2, 2)
        self.out = nn.Sequential(conv3x3(width // 4, width // 4), Gelu(), conv3x3(width // 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        detail, size = F.gelu(self.detail(x)), x.shape[-2:]
        x = self.embed(x)
        for space, mix in zip(self.spaces, self.mixes, strict=True):
            x = x + mix(x + space(x))
        for layer in self.enlarge:
            x = layer(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        return resize(self.out(x + detail), size, False)


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "unet": UNet,
    "pyramid": Pyramid,
    "smooth": Smooth,
    "patches": Patches,
}
