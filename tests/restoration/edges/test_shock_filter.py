"""The shock filter: ramps become steps where they were, and ground, relief and levels stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prv2cli.errors import ConfigError
from prv2cli.model.config import parse_model_config
from prv2cli.refine.refiner import Refiner
from prv2cli.restoration.edges import shock_filter as shock
from prv2cli.restoration.edges.shock_filter import shock_filter

RAMP = np.array([0.15, 0.5, 0.85], np.float32)  # the pixels between two surfaces, from one to the other


def with_ramp(
    height: int = 40, width: int = 60, middle: int = 30, near: float = -0.3, far: float = 0.2
) -> np.ndarray:
    """(H, W): a surface, three pixels of ramp about column `middle`, another surface."""
    row = np.where(np.arange(width) < middle, near, far).astype(np.float32)
    row[middle - 1 : middle + 2] = near + (far - near) * RAMP
    return np.tile(row, (height, 1))


def filtered(values: np.ndarray, steps: int = 2, spread: float = 1.0) -> np.ndarray:
    changed = values.copy()
    shock_filter(changed, steps, spread)
    return changed


@pytest.mark.parametrize("turned", [False, True])
def test_a_ramp_becomes_a_step_at_its_place(turned: bool) -> None:
    ramp = with_ramp()
    result = filtered(ramp.T.copy() if turned else ramp)
    result = result.T if turned else result
    steps = np.abs(np.diff(result, axis=1)) / 0.5
    before = np.abs(np.diff(ramp, axis=1)) / 0.5
    assert before.max() < 0.36
    assert (steps.max(axis=1) > 0.49).all()  # the middle pixel is as near to either surface, and stays
    assert result[:, :29] == pytest.approx(-0.3)
    assert result[:, 32:] == pytest.approx(0.2)
    assert result[:, 29] == pytest.approx(-0.3, abs=0.02)
    assert result[:, 31] == pytest.approx(0.2, abs=0.02)


def test_a_pixel_off_the_middle_goes_to_its_surface() -> None:
    ramp = with_ramp()
    ramp[:, 30] = -0.3 + 0.5 * 0.65
    assert filtered(ramp)[:, 30] == pytest.approx(0.2, abs=0.02)
    ramp[:, 30] = -0.3 + 0.5 * 0.35
    assert filtered(ramp)[:, 30] == pytest.approx(-0.3, abs=0.02)


def test_no_depth_is_made_up() -> None:
    values = np.random.default_rng(0).normal(size=(50, 70)).astype(np.float32)
    result = filtered(values, steps=5)
    assert not np.array_equal(result, values)
    assert values.min() <= result.min()
    assert result.max() <= values.max()


def test_receding_ground_stays_however_steep() -> None:
    rows = np.arange(1, 200, dtype=np.float32)
    ground = np.tile(-np.log(rows)[:, None], (1, 30))
    assert np.abs(np.diff(ground, axis=0)).max() > 10 * shock.EDGE
    assert filtered(ground) == pytest.approx(ground, abs=1e-6)


def test_relief_on_a_surface_stays() -> None:
    relief = 0.002 * np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32)
    assert np.abs(filtered(relief) - relief).mean() < 0.25 * np.abs(relief).mean()
    assert filtered(relief).std() < 1.2 * relief.std()


def test_a_thin_part_keeps_its_place_and_its_depth() -> None:
    values = np.full((40, 40), 0.2, np.float32)
    values[:, 19:22] = -0.3
    values[:, [18, 22]] = 0.1
    result = filtered(values)
    assert result[:, 19:22] == pytest.approx(-0.3, abs=0.01)
    assert result[:, [18, 22]] == pytest.approx(0.2, abs=0.01)


def test_units_do_not_matter() -> None:
    ramp = with_ramp(near=-0.02, far=0.01)
    assert filtered(ramp / 4, spread=4.0) * 4 == pytest.approx(filtered(ramp), abs=1e-6)
    assert not np.allclose(
        filtered(ramp, spread=100.0), filtered(ramp), atol=1e-3
    )  # 3 % of depth is hardly an edge


def test_no_steps_change_nothing() -> None:
    ramp = with_ramp()
    assert np.array_equal(filtered(ramp, steps=0), ramp)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 2)])
def test_a_map_of_a_few_pixels(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    assert np.isfinite(filtered(values)).all()


def test_the_shipped_refiner_uses_it(
    refiner: Refiner, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the map counts as a blurred one."""
    monkeypatch.setattr("prv2cli.refine.fuse.BLURRED", np.inf)
    assert refiner.config.shock_filter > 0
    height, width = photograph.shape[:2]
    coarse = np.full((height // 8, width // 8), 3.0, np.float32)
    coarse[height // 32 : height // 16, width // 32 : width // 16] = 1.5
    config = refiner.config.model_copy(update={"shock_filter": 0})
    without = Refiner(replace(refiner.checkpoint, config=config), None, device="cpu")
    steepest = []
    for one in (without, refiner):
        depth = np.log(one.refine(photograph, coarse_depth=coarse).depth)
        steepest.append(np.sort(np.abs(np.diff(depth, axis=1)), axis=None)[-200:].mean())
    assert steepest[1] > 1.2 * steepest[0]


def test_metres_are_refused() -> None:
    raw = {"kind": "refiner", "depth_space": "metres", "shock_filter": 2, "coarse": {"channels": [8] * 6}}
    with pytest.raises(ConfigError, match="shock_filter works in depth_space: normalised-log only"):
        parse_model_config(raw, "x")
