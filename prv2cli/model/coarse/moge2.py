"""MoGe-2 (Wang et al. 2025, arXiv 2507.02546): a metric point map, its validity and its normals, on timm's ViT.

    photograph ─ resized to a grid of patches ─ DINOv2 ─ projected blocks, summed ─┐        ┌─ points, up to a shift
                        positions on the picture, at five sizes ───────────────────┴─ neck ─┼─ validity
                                   class token ─ metric scale                               └─ normals (not in all)

The focal length and the shift in depth that make the points those of a camera are found by least squares
(point_map.py). The features handed to the refiner are the neck's five levels and, lowest, the encoder's map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.model.coarse.dinov2 import (
    PATCH,
    VITS,
    create_vit,
    imagenet_statistics,
    patch_map,
    read_tokens,
)
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.coarse.point_map import Camera, plane_positions, recover_camera
from prv2cli.model.config import Moge2Config
from prv2cli.model.layers import resize

STRIDE = 16  # cells of the last maps along a side of a patch
VALID = 0.5  # the validity that a point must exceed
SMALLEST_DEPTH = 1e-3  # metres: depth of what would lie behind the camera


class PointMap(NamedTuple):
    """What the network says of B pictures at the size asked for.

    Attributes:
        points: (B, 3, h, w) x, y, z up to a shift of z and the metric scale; OpenCV's axes.
        validity: (B, 1, h, w) in 0..1, low in the sky.
        scale: (B,) metres per unit of the points.
        normals: (B, 3, h, w) of length 1, or None where the network has no head for them.
        features: six maps for a refiner, high resolution first.
    """

    points: Tensor
    validity: Tensor
    scale: Tensor
    normals: Tensor | None
    features: list[Tensor]


def _conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")


class ResidualUnit(nn.Module):
    """x + Conv(ReLU(Conv(ReLU(x)))), borders repeated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv3x3(channels, channels)
        self.second = _conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


def _doubling(inputs: int, outputs: int, *, learnt: bool) -> nn.Sequential:
    """Twice the size: by a transposed convolution, or bilinear; a convolution behind it."""
    if learnt:
        return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, 2), _conv3x3(outputs, outputs))
    upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(upsample, _conv3x3(inputs, outputs))


class ConvStack(nn.Module):
    """From the lowest level up: add the level's input, residual units, double the size. The last doubling is bilinear.

    Args:
        inputs: channels of what comes in at each level, the lowest first. widths: of the stack itself.
        units: how many residual units each level has.
        outputs: channels of the last level's output; None: every level is given out as it is.
    """

    def __init__(
        self, inputs: Sequence[int], widths: Sequence[int], units: Sequence[int], outputs: int | None = None
    ) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(nn.Conv2d(i, w, 1) for i, w in zip(inputs, widths, strict=True))
        self.units = nn.ModuleList(
            nn.Sequential(*(ResidualUnit(w) for _ in range(count)))
            for count, w in zip(units, widths, strict=True)
        )
        steps = list(itertools.pairwise(widths))
        self.up = nn.ModuleList(
            _doubling(low, high, learnt=k < len(steps) - 1) for k, (low, high) in enumerate(steps)
        )
        self.output = None if outputs is None else nn.Conv2d(widths[-1], outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of all levels, the lowest first -> the same of the stack, or the output alone."""
        levels: list[Tensor] = []
        for k, (take, units) in enumerate(zip(self.inputs, self.units, strict=True)):
            x = take(maps[k])
            if levels:
                x = x + self.up[k - 1](levels[-1])
            levels.append(units(x))
        return levels if self.output is None else [self.output(levels[-1])]


class Moge2Coarse(nn.Module):
    """(B, 3, h, w) RGB in 0..1 of any size -> CoarseOutput in metres at that size, six feature maps."""

    ENCODER = "vit"  # the part with a rate of its own

    mean: Tensor
    std: Tensor

    def __init__(self, config: Moge2Config) -> None:
        super().__init__()
        self.config = config
        tokens, widths = VITS[config.encoder].tokens, config.widths
        self.vit = create_vit(config.encoder)
        self.projections = nn.ModuleList(nn.Conv2d(tokens, widths[0], 1) for _ in config.taps)
        self.neck = ConvStack([widths[0] + 2, 2, 2, 2, 2], widths, config.neck_units)
        self.points = ConvStack(widths, widths, config.head_units, 3)
        self.validity = ConvStack(widths, widths, config.head_units, 1)
        self.normals = ConvStack(widths, widths, config.head_units, 3) if config.normals else None
        self.scale = nn.Sequential(
            *(nn.Linear(tokens, widths[0]), nn.ReLU()),
            *(nn.Linear(widths[0], widths[0]), nn.ReLU()),
            nn.Linear(widths[0], 1),
        )
        mean, std = imagenet_statistics()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the six feature maps, high resolution first."""
        return (*self.config.widths[::-1], self.config.widths[0])

    def forward(self, rgb: Tensor) -> CoarseOutput:
        height, width = rgb.shape[-2:]
        grid = token_grid(height, width, choose_tokens(height, width, self.config.tokens))
        found = self.map_points(rgb, grid, (height, width))
        cameras = [
            recover_camera(points, validity[0] > VALID)
            for points, validity in zip(found.points, found.validity, strict=True)
        ]
        return metric_output(found, cameras)

    def encode(self, rgb: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The summed projections of the blocks, (B, C, *grid), and the class token of the last one, (B, C')."""
        size = (grid[0] * PATCH, grid[1] * PATCH)
        if rgb.shape[-2:] != size:
            rgb = F.interpolate(rgb, size, mode="bilinear", align_corners=False, antialias=True)
        tokens = read_tokens(self.vit, (rgb - self.mean) / self.std, self.config.taps)
        projected = [
            project(patch_map(t, *grid)) for project, t in zip(self.projections, tokens, strict=True)
        ]
        return torch.stack(projected).sum(0), tokens[-1][:, 0]

    def map_points(
        self, rgb: Tensor, grid: tuple[int, int], size: tuple[int, int], aspect: float | None = None
    ) -> PointMap:
        """Run the network.

        Args:
            rgb: (B, 3, h, w) in 0..1; resized to `grid` patches with antialiasing.
            grid: rows and columns of patches. size: of the maps given out.
            aspect: width / height of the photograph, if `rgb` has another one.
        """
        aspect = aspect or rgb.shape[-1] / rgb.shape[-2]
        encoded, summary = self.encode(rgb, grid)
        levels = self.neck(_with_positions(encoded, grid, aspect))
        validity = resize(self.validity(levels)[0], size, False).sigmoid()
        normals = None
        if self.normals is not None:
            normals = F.normalize(resize(self.normals(levels)[0], size, False), dim=1)
        points = _remap(resize(self.points(levels)[0], size, False), self.config.remap)
        return PointMap(points, validity, self.scale(summary)[:, 0].exp(), normals, [*levels[::-1], encoded])


def _with_positions(encoded: Tensor, grid: tuple[int, int], aspect: float) -> list[Tensor]:
    """The neck's inputs: positions on the picture at five sizes, behind the encoder's map at the lowest."""
    maps = []
    for level in range(5):
        uv = plane_positions(grid[0] << level, grid[1] << level, aspect).to(encoded)
        maps.append(uv.expand(len(encoded), -1, -1, -1))
    return [torch.cat([encoded, maps[0]], dim=1), *maps[1:]]


def _remap(raw: Tensor, kind: str) -> Tensor:
    """The last activation of the points, (B, 3, h, w)."""
    if kind == "linear":
        return raw
    if kind == "sinh":
        return raw.sinh()
    xy, z = raw[:, :2], raw[:, 2:].exp()
    return torch.cat([xy * z if kind == "exp" else xy.sinh(), z], dim=1)


def choose_tokens(height: int, width: int, limits: tuple[int, int]) -> int:
    """How many patches a photograph is seen with: as many as it has, within what the network was trained for."""
    return min(max(round(height * width / PATCH**2), limits[0]), limits[1])


def token_grid(height: int, width: int, tokens: int) -> tuple[int, int]:
    """Rows and columns of about so many patches in the photograph's aspect (halves to even); one at least."""
    rows, columns = (round(math.sqrt(tokens * ratio)) for ratio in (height / width, width / height))
    return min(max(rows, 1), tokens), min(max(columns, 1), tokens)


def metric_output(found: PointMap, cameras: Sequence[Camera]) -> CoarseOutput:
    """A point map under its cameras: depth in metres, what is valid, the cameras' focal lengths in half diagonals.

    Depth is never less than SMALLEST_DEPTH; what lies nearer is not valid.
    """
    shift = found.points.new_tensor([camera.shift for camera in cameras])
    # 0: nobody knows.
    focal = found.points.new_tensor([camera.focal if camera.known else 0.0 for camera in cameras])
    depth = found.points[:, 2:] + shift[:, None, None, None]
    valid = (found.validity > VALID) & (depth > 0)
    depth = (depth * found.scale[:, None, None, None]).clamp_min(SMALLEST_DEPTH)
    return CoarseOutput(depth, found.features, valid, focal, found.normals)
