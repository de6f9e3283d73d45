"""Given maps in the space that suits them: holes, what lies at 0 and below, steps."""

from __future__ import annotations

import numpy as np
import pytest

from prv2cli.choices import Kind, Unit
from prv2cli.coarse.given import as_prompt, given_coarse
from prv2cli.errors import InputError

VALUES = np.array([[0.0, 1.0, 2.0], [np.nan, -1.0, 4.0]], np.float32)


def test_relative_inverse_maps_keep_what_is_far() -> None:
    found = given_coarse(VALUES, "inverse", "relative")
    assert found.affine
    assert found.kind == "inverse"
    known = ~np.isnan(VALUES)
    assert np.array_equal(found.values[0, 0].numpy()[known], VALUES[known])
    assert np.isfinite(found.values.numpy()).all()


def test_metric_maps_have_holes_there_and_become_depth() -> None:
    found = given_coarse(VALUES, "inverse", "metre")
    assert not found.affine
    assert found.kind == "depth"
    assert (found.values > 0).all()
    assert found.values[0, 0, 0, 2] == 0.5


@pytest.mark.parametrize(
    ("unit", "known"),
    [("metre", [[0, 1, 1], [0, 0, 1]]), ("relative", [[1, 1, 1], [0, 1, 1]])],
)
def test_what_was_measured_is_told_from_what_was_filled(unit: Unit, known: list[list[int]]) -> None:
    measured = given_coarse(VALUES, "inverse", unit).measured
    assert measured is not None
    np.testing.assert_array_equal(measured[0, 0].numpy(), np.array(known, bool))
    assert given_coarse(VALUES[:, 1:].clip(1), "inverse", unit).measured is None


@pytest.mark.parametrize(
    ("least", "half_step", "affine"), [(1.0, 0.0, False), (0.0, 0.0, True), (1.0, 0.5, True)]
)
def test_relative_depth_is_affine_where_it_has_no_zero_of_its_own(
    least: float, half_step: float, affine: bool
) -> None:
    values = np.linspace(least, 9, 12, dtype=np.float32).reshape(3, 4)
    assert given_coarse(values, "depth", "relative", half_step).affine is affine


def test_steps_are_taken_out() -> None:
    levels = np.repeat(np.arange(12, dtype=np.float32), 10)[None].repeat(60, axis=0)
    found = given_coarse(levels, "inverse", "relative", 0.5).values[0, 0].numpy()
    assert np.abs(np.diff(found, axis=1)).max() < 0.3
    assert np.abs(found - levels).max() <= 0.5 + 1e-5


@pytest.mark.parametrize("unit", ["metre", "relative"])
def test_nothing_valid(unit: Unit) -> None:
    with pytest.raises(InputError, match="no valid pixel"):
        given_coarse(np.full((2, 3), np.nan), "inverse", unit)


@pytest.mark.parametrize("kind", ["depth", "inverse"])
def test_steps_of_metres_are_taken_out_too(kind: Kind) -> None:
    levels = np.repeat(np.arange(1, 13, dtype=np.float32), 10)[None].repeat(60, axis=0)
    levels[:5, :5] = 0
    found = given_coarse(levels, kind, "metre", 0.5).values[0, 0].numpy()
    stored = found if kind == "depth" else 1 / found
    assert len(np.unique(found[30])) > 60
    assert np.abs(stored - levels)[levels > 0].max() <= 0.5 + 1e-5
    assert np.isfinite(found).all()


def test_what_no_float_can_hold_is_a_hole() -> None:
    """The tail of a blurred disparity: its depth is no number."""
    values = np.full((8, 8), 0.5)
    values[0, 0], values[7, 7] = 1e-39, 1e300
    found = given_coarse(values, "inverse", "metre", keep_holes=True)
    np.testing.assert_allclose(found.values.numpy(), 2.0, rtol=1e-6)
    assert found.seen is not None
    assert not found.seen[0, 0, 7, 7]


def test_a_prompt_without_a_value_above_0_is_taken_from_its_least_on() -> None:
    known = given_coarse(np.linspace(-10, -1, 12).reshape(3, 4), "inverse", "relative")
    found = as_prompt(known)
    assert (found.values > 0).all()
    assert found.values.max() == 9
    assert (found.values.flatten().diff() > 0).all()
    above = given_coarse(np.linspace(-10, 1, 12).reshape(3, 4), "inverse", "relative")
    assert as_prompt(above).values.max() == 1
