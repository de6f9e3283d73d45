"""Random changes of training photographs.

photograph   what a camera does to a rendered picture: light, lens, sensor, tone curve, JPEG
augment      what is done to the photographs of a data set, and to the maps that belong to them
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from prv2cli.extras import import_opencv
from prv2cli.photo.levels import to_8_bits
from prv2cli.training.config.samples import AugmentConfig


def photograph(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rendered picture as a camera might give it. (H, W, 3) uint8 -> the same shape and type.

    White balance and exposure; now and then a soft lens, sensor noise (shot and read), a tone curve, JPEG.
    """
    cv2 = import_opencv()
    pixels = rgb.astype(np.float32)
    pixels *= (rng.uniform(0.75, 1.25, 3) * rng.uniform(0.6, 1.3)).astype(np.float32)
    if rng.random() < 0.4:
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.6:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32)
        shot = np.sqrt(np.maximum(pixels, 0)) * np.float32(rng.uniform(0, 0.5))
        pixels += noise * (shot + np.float32(rng.uniform(0, 6)))
    if rng.random() < 0.3:
        gamma = float(rng.uniform(0.7, 1.4))
        pixels = (255 * (np.clip(pixels, 0, 255) / 255) ** gamma).astype(np.float32)
    out = np.clip(pixels, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 97))]
        # OpenCV takes the channels for BGR; for the artefacts wanted here the order matters little.
        out = cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR)
    return out


def augment(
    rgb: np.ndarray, maps: Sequence[np.ndarray], config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Turn, mirror and colour a photograph, and turn and mirror its maps with it.

    Args:
        rgb: (H, W, 3) uint8 or uint16. maps: (H, W) float32 each; what is turned in from outside is NaN.

    Returns:
        The photograph, float32 in 0..1 where its colours were changed, and the maps.
    """
    # Every draw is made, whatever the settings, so that one setting does not change what the others do.
    angle, mirrored, camera, coloured = rng.uniform(-1, 1), rng.random(), rng.random(), rng.random()
    curve = rng.uniform(0, 1, 5)
    changed = list(maps)
    if config.rotate > 0:
        rgb, changed = _rotate(rgb, changed, config.rotate * angle)
    if mirrored < config.flip:
        rgb, changed = rgb[:, ::-1], [values[:, ::-1] for values in changed]
    if camera < config.camera:
        rgb = photograph(to_8_bits(rgb), rng)
    if coloured < config.colour:
        rgb = _colour(rgb, config, curve)
    return np.ascontiguousarray(rgb), [np.ascontiguousarray(values) for values in changed]


def _colour(rgb: np.ndarray, config: AugmentConfig, draws: np.ndarray) -> np.ndarray:
    """Gamma, then brightness and the balance of the channels; `draws`: 5 numbers in 0..1."""
    pixels = rgb.astype(np.float32) / np.iinfo(rgb.dtype).max
    low, high = np.array([config.gamma, config.brightness, *[config.balance] * 3]).T
    gamma, brightness, *balance = low + (high - low) * draws
    return np.clip(pixels ** np.float32(gamma) * (brightness * np.array(balance, np.float32)), 0, 1).astype(
        np.float32
    )


def _rotate(
    rgb: np.ndarray, maps: Sequence[np.ndarray], degrees: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Turn around the centre: the photograph bilinearly, black from outside, the maps by the nearest pixel, NaN."""
    turned = [
        np.asarray(Image.fromarray(np.ascontiguousarray(values)).rotate(degrees, fillcolor=float("nan")))
        for values in maps
    ]
    if rgb.dtype == np.uint8:
        pixels = Image.fromarray(np.ascontiguousarray(rgb))
        return np.asarray(pixels.rotate(degrees, resample=Image.Resampling.BILINEAR)), turned
    channels = [Image.fromarray(rgb[..., c].astype(np.float32)) for c in range(3)]
    bilinear = [
        np.asarray(channel.rotate(degrees, resample=Image.Resampling.BILINEAR)) for channel in channels
    ]
    return np.round(np.stack(bilinear, axis=-1)).astype(rgb.dtype), turned
