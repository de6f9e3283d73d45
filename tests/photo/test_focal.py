"""The focal length in pixels: from film and sensor figures, through files of every format."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import RGB8, H, W, saved
from PIL import Image

from prv2cli.photo.focal import focal_px
from prv2cli.photo.read import read_photo

F35, FOCAL, PIXELS, PIXELS_DOWN, RESOLUTION, UNIT = 0xA405, 0x920A, 0xA002, 0xA003, 0xA20E, 0xA210


@pytest.mark.parametrize(
    ("exif", "expected"),
    [
        ({}, None),
        ({F35: 28}, 28 * 5000 / np.hypot(36, 24)),
        ({F35: 0, FOCAL: 50.0}, None),
        ({F35: 0, FOCAL: 50.0, RESOLUTION: 100.0, UNIT: 4}, 5000),
        ({FOCAL: 50.0, RESOLUTION: 2540.0}, 5000),  # inches where no unit is given
        ({FOCAL: 50.0, RESOLUTION: 1000.0, UNIT: 3, PIXELS: 8000}, 2500),  # resized to half
        ({FOCAL: 50.0, RESOLUTION: 2540.0, UNIT: 1}, None),
        ({FOCAL: 50.0, RESOLUTION: float("nan")}, None),
        ({F35: 60000}, None),
        ({F35: b"?"}, None),
    ],
)
def test_focal_length(exif: dict[int, object], expected: float | None) -> None:
    assert focal_px(exif, 4000, 3000) == (expected and pytest.approx(expected))
    assert focal_px({**exif, PIXELS: exif.get(PIXELS, 4000)}, 4000, 3000) == (
        expected and pytest.approx(expected)
    )


def test_a_picture_that_was_turned_has_the_same_focal_length() -> None:
    """By the sensor's figures, which are of the picture as it lay."""
    exif = {FOCAL: 50.0, RESOLUTION: 100.0, UNIT: 4, PIXELS: 4000, PIXELS_DOWN: 3000}
    assert focal_px(exif, 4000, 3000) == focal_px(exif, 3000, 4000) == pytest.approx(5000)
    assert focal_px(exif, 1500, 2000) == pytest.approx(2500)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_focal_length_of_files(format: str) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    tags[0x8769] = {F35: 28}
    photo = read_photo(saved(RGB8, format, exif=tags.tobytes()))
    assert photo.focal_px == pytest.approx(28 * np.hypot(H, W) / np.hypot(36, 24))
    assert photo.rgb.shape == (W, H, 3)
