"""Depth inside a page: every bit comes back, in 16 bits where the file has no more."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from pages import values_of

from prv2cli.view.numbers import pack


def _back(values: np.ndarray, scale: float) -> tuple[int, np.ndarray]:
    kept = values.copy()
    packed = pack(values, scale)
    assert np.array_equal(values, kept, equal_nan=True), "the map itself stays as it was"
    return packed.bytes, values_of({"shown": values.shape[::-1], **asdict(packed)})


def _random(rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    values = np.exp(rng.uniform(-7, 9, (rows, columns))).astype(np.float32)
    values[rng.random((rows, columns)) < 0.2] = np.nan
    return values


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (13, 17)])
def test_floats_keep_every_bit(size: tuple[int, int]) -> None:
    values = _random(*size)
    values[-1, -1] = np.float32(1e-30)
    size_of_one, found = _back(values, 1.0)
    assert size_of_one == 4
    assert np.array_equal(found, values, equal_nan=True)


@pytest.mark.parametrize("scale", [1.0, 256.0, 1000.0, 5000.0, 0.37])
def test_steps_of_a_file_take_16_bits(scale: float) -> None:
    steps = np.random.default_rng(5).integers(0, 65536, (19, 23))
    steps[0, :3] = [0, 1, 65535]
    values = np.where(steps == 0, np.nan, (steps / scale).astype(np.float32)).astype(np.float32)
    size_of_one, found = _back(values, scale)
    assert size_of_one == 2
    assert np.array_equal(found, values, equal_nan=True)


@pytest.mark.parametrize("odd", [0.5, 65536.0, 0.0, -3.0])
def test_what_16_bits_cannot_hold_stays_float(odd: float) -> None:
    values = np.array([[1, 2, odd, np.nan]], np.float32)
    size_of_one, found = _back(values, 1.0)
    assert size_of_one == 4
    assert np.array_equal(found, values, equal_nan=True)


def test_a_map_without_depth() -> None:
    size_of_one, found = _back(np.full((2, 3), np.nan, np.float32), 256.0)
    assert size_of_one == 2
    assert np.isnan(found).all()
