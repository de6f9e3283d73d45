"""The coloured picture of a depth map: polarity, invalid pixels, robustness, files."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prv2cli.depth_files.ours import preview
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.preview import INVALID_COLOUR, colourise, is_affine, write_preview
from prv2cli.errors import OutputError, UsageError


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours (..., 3)."""
    srgb = colours / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def ramp() -> np.ndarray:
    """1 m on the left to 50 m on the right, even steps of inverse depth."""
    return np.repeat((1 / np.linspace(1, 0.02, 400))[None], 30, axis=0).astype(np.float32)


def test_near_is_bright_and_warm_far_is_dark() -> None:
    picture = colourise(ramp())
    assert (picture.shape, picture.dtype) == ((30, 400, 3), np.uint8)
    shade = lightness(picture[0].astype(float))
    assert np.all(np.diff(shade) <= 1e-9 + 0.3)  # rounding to 8 bits may wiggle
    assert (shade[0] > 90, shade[-1] < 10) == (True, True)
    near, far = picture[0, 40].astype(int), picture[0, -1].astype(int)
    assert near[0] > near[2] + 50  # more red than blue
    assert far[2] > far[0]


def test_lightness_is_even_and_no_colour_looks_invalid() -> None:
    table = preview.colour_table().astype(float)
    change = np.diff(lightness(table)[::64])
    assert change.min() > 0.5 * change.mean()
    assert change.max() < 1.6 * change.mean()
    assert np.abs(table - INVALID_COLOUR).max(axis=1).min() > 30


def test_invalid_is_grey_and_outliers_do_not_matter() -> None:
    depth = ramp()
    plain = colourise(depth)
    depth[0, :5] = [np.nan, np.inf, 0, -1, -np.inf]
    depth[1, :3] = [1e-4, 1e6, 1e-30]
    picture = colourise(depth)
    assert np.all(picture[0, :5] == INVALID_COLOUR)
    assert np.abs(picture[2:].astype(int) - plain[2:]).max() <= 3


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_unit_does_not_matter_and_inverse_is_the_same_picture(scale: float) -> None:
    depth = ramp()
    picture = colourise(depth).astype(int)
    assert np.abs(colourise(depth * np.float32(scale)) - picture).max() <= 2
    assert np.abs(colourise(1 / depth * np.float32(scale), inverse=True) - picture).max() <= 2


@pytest.mark.parametrize("value", [3.0, np.nan, 1e-30])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_a_map_of_one_value(value: float, size: tuple[int, int]) -> None:
    picture = colourise(np.full(size, value, np.float32))
    middle = preview.colour_table()[preview._STEPS // 2]
    assert np.all(picture == (INVALID_COLOUR if np.isnan(value) else middle))


def test_a_large_map_looks_like_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = colourise(ramp()).astype(int)
    monkeypatch.setattr(preview, "_SAMPLE", 500)
    assert np.abs(colourise(ramp()) - whole).max() <= 8


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_files(tmp_path: Path, name: str) -> None:
    depth = np.repeat(ramp(), 20, axis=0)  # more than one band of rows
    write_preview(tmp_path / name, depth)
    with Image.open(tmp_path / name) as image:
        assert image.size == (400, 600)
        difference = np.abs(np.asarray(image).astype(int) - colourise(depth))
    assert difference.mean() < 3
    assert name != "a.png" or difference.max() == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--preview .*a\.tif.*\.png, \.jpg, \.jpeg, \.webp"):
        write_preview(tmp_path / "a.tif", ramp())
    with pytest.raises(OutputError, match="mkdir -p"):
        write_preview(tmp_path / "none" / "a.png", ramp())
    with pytest.raises(OutputError, match=r"20000 x 1 is too large for WEBP; use \.png"):
        write_preview(tmp_path / "a.webp", np.ones((1, 20000), np.float32))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.fsync", full)
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"a\.png: no space left"):
        write_preview(tmp_path / "a.png", ramp())
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_inverse_depth_is_far_at_0_and_below() -> None:
    """Relative maps are known up to a constant: their sky is 0, or a little less."""
    values = np.linspace(-0.2, 1, 400, dtype=np.float32).reshape(20, 20)
    values[0, 0] = np.nan
    picture = colourise(values, inverse=True)
    grey = (picture == INVALID_COLOUR).all(axis=2)
    assert grey.sum() == 1
    assert grey[0, 0]
    brightness = picture.sum(axis=2)
    assert brightness[0, 1] < brightness[10, 10] < brightness[-1, -1]
    for constant in (0.0, -3.0):
        assert not (colourise(np.full((4, 5), constant, np.float32), inverse=True) == INVALID_COLOUR).all()


def test_depth_without_a_zero_is_near_at_0_and_below() -> None:
    values = np.linspace(-0.2, 1, 400, dtype=np.float32).reshape(20, 20)
    values[0, 0] = np.nan
    picture = colourise(values, affine=True)
    assert (picture == INVALID_COLOUR).all(axis=2).sum() == 1
    brightness = picture.sum(axis=2)
    assert brightness[0, 1] > brightness[10, 10] > brightness[-1, -1]
    assert np.array_equal(picture, colourise(-values, inverse=True))


def test_which_maps_have_no_zero_of_their_own() -> None:
    relative, metres = DepthMetadata(unit="relative"), DepthMetadata()
    inverse = DepthMetadata(unit="1/relative", kind="inverse")
    reaching, above = np.array([[0.0, 2]], np.float32), np.array([[0.1, 2]], np.float32)
    found = [is_affine(reaching, one) for one in (relative, metres, inverse)]
    assert found == [True, False, False]
    assert not is_affine(above, relative)
