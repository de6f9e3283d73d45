"""Area averages: the mean, the same from disk as from memory, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_arrays import on_disk, small_bands

from prv2cli.files.disk_array import DiskArray
from prv2cli.resampling.area import reduce_photograph, shrink


@pytest.fixture(autouse=True)
def _small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures go through many bands, too."""
    small_bands(monkeypatch)


def test_shrinking_averages() -> None:
    rgb = np.random.default_rng(0).integers(0, 65536, (12, 20, 3), dtype=np.uint16)
    mean = rgb.reshape(3, 4, 5, 4, 3).mean((1, 3)) / 65535
    np.testing.assert_allclose(shrink(rgb, (3, 5))[0].permute(1, 2, 0).numpy(), mean, atol=1e-4)
    eight = (rgb // 257).astype(np.uint8)
    np.testing.assert_allclose(shrink(eight, (3, 5))[0].permute(1, 2, 0).numpy(), mean, atol=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(321, 212), (701, 90), (45, 333), (128, 128)])
def test_averages_equal_those_in_memory(tmp_path: Path, dtype: Any, shape: tuple[int, int]) -> None:
    """Heights of 4 k + 1 have a row that lies exactly between two; in tall pictures Pillow might take columns first."""
    rgb = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, (*shape, 3)).astype(dtype)
    array = on_disk(rgb, tmp_path)
    height, width = shape
    for size in [(height // 2, width // 2), (37, 41), (1, 1), (height, 7), shape, (height + 9, width * 2)]:
        assert np.array_equal(shrink(rgb, size).numpy(), shrink(array, size).numpy()), size
        assert np.array_equal(reduce_photograph(rgb, size), reduce_photograph(array, size)), size


def test_a_large_reduced_photograph_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prv2cli.resampling.area_in_bands._IN_MEMORY_BYTES", 1000)
    rgb = np.random.default_rng(1).integers(0, 256, (100, 80, 3)).astype(np.uint8)
    reduced = reduce_photograph(on_disk(rgb, tmp_path), (50, 40))
    assert isinstance(reduced, DiskArray)
    assert np.array_equal(reduced[:], reduce_photograph(rgb, (50, 40)))
