"""Filters by bands: a map in pieces, or on disk, gets the values of the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prv2cli.files.disk_array import DiskArray
from prv2cli.restoration.edges import by_bands as bands
from prv2cli.restoration.edges.shock_filter import shock_filter
from prv2cli.restoration.edges.weighted_median import weighted_median

VALUES = np.random.default_rng(1).normal(size=(101, 37)).astype(np.float32)
PIXELS = np.random.default_rng(2).integers(0, 60, (101, 37, 3), np.uint8)
Filter = Callable[[np.ndarray | DiskArray], None]


@pytest.fixture(params=["shock 1", "shock 2", "shock 7", "median 2", "median 4, 2", "median 1, 3, 2"])
def change(request: pytest.FixtureRequest) -> Filter:
    kind, *numbers = request.param.replace(",", "").split()
    if kind == "shock":
        return lambda values: shock_filter(values, int(numbers[0]), 1.0)
    return lambda values: weighted_median(values, PIXELS, 1.0, [int(number) for number in numbers])


def test_bands_and_a_map_on_disk_get_the_same_values(
    change: Filter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = VALUES.copy()
    change(whole)
    assert not np.array_equal(whole, VALUES)
    monkeypatch.setattr(bands, "BAND_PIXELS", 1)
    for rows in (1, 3, 17, 100):
        monkeypatch.setattr(bands, "BAND_ROWS", rows)
        pieces = VALUES.copy()
        change(pieces)
        assert np.array_equal(pieces, whole)
    with DiskArray(VALUES.shape, np.float32, tmp_path) as on_disk:
        on_disk[:] = VALUES
        change(on_disk)
        assert np.array_equal(on_disk[:], whole)


def test_each_band_is_told_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "BAND_PIXELS", 1)
    monkeypatch.setattr(bands, "BAND_ROWS", 8)
    values, seen = np.arange(30, dtype=np.float32)[:, None], []

    def change(block: np.ndarray, first: int) -> np.ndarray:
        assert block[0, 0] == first
        seen.append((first, len(block)))
        return block + 100

    bands.by_bands(values, 2, change)
    assert np.array_equal(values[:, 0], np.arange(100, 130))
    assert sorted(seen) == [(0, 10), (6, 12), (14, 12), (22, 8)]
