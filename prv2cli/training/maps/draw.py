"""A coarse map for a scene, of any kind that a refiner may meet, and the truth that goes with it.

    spoilt     the truth spoilt by formulas (degrade.py)
    faulty     with the faults of depth networks by formulas (network_faults.py)
    imitated   a small network's idea of the photograph (imitators/)
    sensor     a sensor's or a stereo matcher's (sensors.py)
    sharp      nearly right at nearly full size: to be left alone

Then some are stored as pictures of 8 bits, or as JPEG, as people store them.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.extras import import_opencv
from prv2cli.model.depth_space import Affine, LogNormalisation
from prv2cli.restoration.noise.find import find_noise, without
from prv2cli.training.config.samples import DegradeConfig
from prv2cli.training.config.scenes import ImitatorsConfig, MapsConfig
from prv2cli.training.imitators.imitate import BLURRED, Imitator, Space, load_imitators
from prv2cli.training.maps.network_faults import as_network
from prv2cli.training.maps.own_levels import at_own_levels
from prv2cli.training.maps.sensors import sense
from prv2cli.training.samples.degrade import degrade

Rng = np.random.Generator
KINDS = ("spoilt", "faulty", "imitated", "sensor", "sharp")
FARTHEST = 400.0  # metres: of a network's inverse map that falls to 0, in log-depth
_SHARP = {"factor": (1.0, 2.0), "blur": (0.0, 0.5), "displaced": 0.15, "noisy": 0.05, "drop_thin": 0.1}
_INPUTS = (96, 128, 160, 192, 224, 256, 288)  # pixels, of the imitators
_DENOISED = 0.8  # of the samples; the others teach what is left where no noise is found
_CELL = 0.5  # pixels (standard deviation) that one value blurs when it is enlarged


class CoarseMap(NamedTuple):
    """Both maps (1, 1, H, W), in log-depth or inverse depth.

    blur: standard deviation in pixels. unit: pixels that the map sees as one.
    """

    values: Tensor
    truth: Tensor
    space: Space
    blur: float
    unit: float


class Normalised(NamedTuple):
    """A coarse map and its truth, normalised by the coarse map: farther is larger."""

    coarse: Tensor
    truth: Tensor
    norm: LogNormalisation | Affine
    blur: float


def draw_map(rgb: Tensor, depth: Tensor, maps: MapsConfig, spoil: DegradeConfig, rng: Rng) -> Normalised:
    """A coarse map of a scene, its kind drawn by the shares of `maps`.

    Args:
        rgb: (1, 3, H, W) in 0..1. depth: (1, 1, H, W) metres.
    """
    kind = KINDS[int(rng.choice(len(KINDS), p=maps.shares))]
    if kind == "imitated":
        made = _imitated(rgb, depth, maps.imitators, rng)
    elif kind == "faulty":
        made = _faulty(rgb, depth, rng)
    elif kind == "sensor":
        made = _sensed(depth, rng)
    else:
        made = _spoilt(depth, spoil if kind == "spoilt" else spoil.model_copy(update=_SHARP), rng)
    made = _in_a_space(made, maps.inverse, rng)
    if rng.random() < maps.eight_bits:
        made = made._replace(values=_as_picture(made.values, maps.jpeg, rng))
    found = _normalised(made, maps)
    if maps.denoise and rng.random() < _DENOISED:
        noise = find_noise(found.coarse, (rgb.shape[-2], rgb.shape[-1]), lambda: rgb)
        found = found._replace(coarse=without(noise, found.coarse))
    return found


def _faulty(rgb: Tensor, depth: Tensor, rng: Rng) -> CoarseMap:
    found = as_network(rgb[0].permute(1, 2, 0).numpy(), depth[0, 0].numpy(), rng)
    values = torch.from_numpy(found.depth)[None, None].log()
    return CoarseMap(values, depth.log(), "log", found.blur, found.unit)


def _sensed(depth: Tensor, rng: Rng) -> CoarseMap:
    sensed = sense(depth[0, 0].numpy(), rng)
    values = torch.from_numpy(sensed.depth)[None, None]
    if sensed.disparity:
        return CoarseMap(1 / values, 1 / depth, "inverse", _CELL * sensed.unit, sensed.unit)
    return CoarseMap(values.log(), depth.log(), "log", _CELL * sensed.unit, sensed.unit)


def _spoilt(depth: Tensor, spoil: DegradeConfig, rng: Rng) -> CoarseMap:
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    spoilt = degrade(depth, spoil, generator)
    return CoarseMap(spoilt.depth.log(), depth.log(), "log", spoilt.blur, max(1.0, spoilt.blur / _CELL))


def _imitated(rgb: Tensor, depth: Tensor, config: ImitatorsConfig, rng: Rng) -> CoarseMap:
    known = imitators(config)
    imitator = known[int(rng.integers(len(known)))]
    side = depth.shape[-1]
    size = int(rng.choice([s for s in _INPUTS if s <= side] or [_INPUTS[0]]))
    return imitate(imitator, rgb, depth, size, float(rng.uniform(*BLURRED)), smooth=rng.random() < 0.5)


def imitate(
    imitator: Imitator, rgb: Tensor, depth: Tensor, size: int, blurred: float, *, smooth: bool
) -> CoarseMap:
    """What an imitator makes of a scene at an input of `size` pixels; `smooth`: enlarged bicubically."""
    low = imitator.predict(rgb, depth, size, blurred)
    mode = "bicubic" if smooth else "bilinear"
    values = F.interpolate(low, size=depth.shape[-2:], mode=mode, align_corners=False)
    truth = depth.log() if imitator.space == "log" else 1 / depth
    unit = depth.shape[-1] / size
    return CoarseMap(values, truth, imitator.space, _CELL * unit, unit)


@functools.lru_cache(maxsize=2)
def imitators(config: ImitatorsConfig) -> list[Imitator]:
    """Loaded once in each process that makes samples."""
    return load_imitators(config)


def _in_a_space(made: CoarseMap, inverse: float, rng: Rng) -> CoarseMap:
    """Most maps of inverse networks stay so; of the others a share is told as inverse."""
    if inverse == 0:
        return _to_log(made)
    if made.space == "inverse":
        return made if rng.random() < 0.75 else _to_log(made)
    if rng.random() >= inverse:
        return made
    return made._replace(values=(-made.values).exp(), truth=(-made.truth).exp(), space="inverse")


def _to_log(made: CoarseMap) -> CoarseMap:
    if made.space == "log":
        return made
    far = 1 / FARTHEST
    return made._replace(
        values=-made.values.clamp_min(far).log(), truth=-made.truth.clamp_min(far).log(), space="log"
    )


def _as_picture(values: Tensor, jpeg: float, rng: Rng) -> Tensor:
    """Stored in 256 steps between its smallest and its largest value, and read again."""
    cv2 = import_opencv()
    low, high = values.min(), values.max()
    scale = 255 / (high - low).clamp_min(1e-9)
    picture = ((values - low) * scale).round().clamp(0, 255)[0, 0].numpy().astype(np.uint8)
    if rng.random() < jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 97))]
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_GRAYSCALE)
    return torch.from_numpy(picture)[None, None].float() / scale + low


def _normalised(made: CoarseMap, maps: MapsConfig) -> Normalised:
    norm: LogNormalisation | Affine
    if made.space == "inverse":
        norm = Affine.of(made.values)
        coarse, truth = norm.encode(made.values), norm.encode(made.truth)
    else:
        norm = LogNormalisation.of(made.values.exp())
        coarse, truth = ((x - norm.centre) / norm.spread for x in (made.values, made.truth))
    if maps.own_levels:
        truth = at_own_levels(truth, coarse, made.unit)
    return Normalised(coarse, truth, norm, made.blur)
