"""What a camera does to a rendered picture: light, lens, sensor, tone curve, JPEG."""

from __future__ import annotations

import numpy as np

from prv2cli.textures import opencv


def photograph(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rendered picture as a camera might give it. (H, W, 3) uint8 -> the same shape and type.

    White balance and exposure; now and then a soft lens, sensor noise (shot and read), a tone curve, JPEG.
    """
    cv2 = opencv()
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
