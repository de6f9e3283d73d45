"""Antialiased bilinear resizing in bands: the values of torch's own, without its memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prv2cli.files.disk_array import DiskArray
from prv2cli.resampling import triangle
from prv2cli.resampling.triangle import resize_antialiased

SIZES = [(98, 126), (700, 40), (331, 207), (400, 400)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_are_torchs(size: tuple[int, int], dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triangle, "_BAND_PIXELS", 207 * 50)
    rgb = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (331, 207, 3), dtype=dtype)
    whole = torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None] / np.iinfo(dtype).max
    expected = F.interpolate(whole, size, mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(resize_antialiased(rgb, size), expected, rtol=0, atol=1e-6)


def test_photographs_on_disk(tmp_path: Path) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    with DiskArray(rgb.shape, rgb.dtype, tmp_path) as stored:
        stored[:] = rgb
        assert torch.equal(resize_antialiased(stored, (98, 70)), resize_antialiased(rgb, (98, 70)))


def test_large_photographs_take_little_memory() -> None:
    rgb = np.zeros((4000, 6000, 3), np.uint8)
    tracemalloc.start()
    try:
        resize_antialiased(rgb, (700, 1050))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < rgb.nbytes / 2  # in float32 it would be four times the photograph
