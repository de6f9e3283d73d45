"""Changes of photographs: maps move along, colours stay within their ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prv2cli.training.config.samples import AugmentConfig
from prv2cli.training.samples.augment import augment


def test_photographs_and_maps_are_turned_together() -> None:
    rng = np.random.default_rng(0)
    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[10:20, 5:25] = 255
    depth = np.where(rgb[..., 0] > 0, 1.0, 2.0).astype(np.float32)
    settings = AugmentConfig(flip=1, rotate=20, colour=0)
    turned, (moved,) = augment(rgb, [depth], settings, rng)
    inside = ~np.isnan(moved)
    assert 0 < (~inside).sum() < moved.size / 2
    assert turned.dtype == np.uint8
    agree = (turned[..., 0] > 127) == (moved == 1)
    assert agree[inside].mean() > 0.97  # all but the interpolated border
    assert turned[:, 30:].sum() > turned[:, :30].sum()  # mirrored


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_change_within_their_ranges_and_depth_does_not(dtype: Any) -> None:
    grey = np.full((4, 4, 3), np.iinfo(dtype).max // 2, dtype)
    depth = np.ones((4, 4), np.float32)
    only: dict[str, Any] = {"flip": 0.0, "rotate": 0.0, "colour": 1.0}
    brighter = AugmentConfig(**only, gamma=(1, 1), brightness=(1.2, 1.2), balance=(1, 1))
    changed, (same,) = augment(grey, [depth], brighter, np.random.default_rng(0))
    assert changed.dtype == np.float32
    assert np.allclose(changed, 0.6, atol=0.01)
    assert np.array_equal(same, depth)
    drawn = [augment(grey, [depth], AugmentConfig(**only), np.random.default_rng(i))[0] for i in range(20)]
    assert np.ptp([image.mean() for image in drawn]) > 0.02
    assert all(image.min() >= 0 and image.max() <= 1 for image in drawn)
