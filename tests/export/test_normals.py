"""Normals against surfaces known by their equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from views import ball, camera, plane, view_of

from prv2cli.export.normals import normals_in_bands, normals_of, usual_radius
from prv2cli.export.view import View, without_steps

SIZE = (200, 300)
RAYS = camera(*SIZE, 250.0).rays()


def degrees(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((found * true).sum(-1), -1, 1)))


def all_of(view: View, **how: int) -> np.ndarray:
    return np.concatenate(list(normals_in_bands(view, **how)))


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.6, 0.2, 0.8), (-0.5, 0.7, 0.6), (0, 0.97, 0.24)])
def test_a_plane_has_its_normal_however_slanted(normal: tuple[float, float, float]) -> None:
    surface = plane(RAYS, normal, 2.0)
    far = ~((surface.depth > 0) & (surface.depth < 30))  # towards the horizon there are no digits left
    found = normals_of(1 / np.where(far, np.nan, surface.depth).astype(np.float32), RAYS)
    assert degrees(found, surface.normals)[~far].mean() < 0.1


def test_a_floor_is_green_and_a_wall_on_the_left_is_red() -> None:
    """By hand: what is below looks up, what is on the left looks right."""
    depth = 1.5 / np.maximum(RAYS.y[:, None], 1e-9).repeat(300, 1)  # 1.5 m below the camera
    below = normals_of((1 / depth).astype(np.float32), RAYS)
    np.testing.assert_allclose(below[150, 40], (0, 1, 0), atol=1e-3)
    depth = 2 / np.maximum(-RAYS.x, 1e-9)[None].repeat(200, 0)  # 2 m to the left
    left = normals_of((1 / depth).astype(np.float32), RAYS)
    np.testing.assert_allclose(left[30, 50], (1, 0, 0), atol=1e-3)


def test_a_ball_before_a_wall_has_its_normals_up_to_its_rim() -> None:
    surface, hit = ball(RAYS, (0.2, 0.1, 4.0), 1.3, 7.0)
    wrong = degrees(normals_of((1 / surface.depth).astype(np.float32), RAYS), surface.normals)
    assert wrong[hit].mean() < 0.5
    assert wrong[~hit].max() < 0.5, "the wall's windows do not look at the ball"


def test_a_step_and_a_crease_are_kept_to_one_side() -> None:
    left, right = plane(RAYS, (0.5, 0, 1), 2.0), plane(RAYS, (-0.5, 0, 1), 2.0)
    crease = np.minimum(left.depth, right.depth)  # a roof edge: no step in depth at all
    true = np.where((left.depth <= right.depth)[..., None], left.normals, right.normals)
    wrong = degrees(normals_of((1 / crease).astype(np.float32), RAYS), true)
    assert wrong.max() < 1.0
    step = left.depth.copy()
    step[:, 150:] += 1.0
    shifted = degrees(normals_of((1 / step).astype(np.float32), RAYS, 2), left.normals)
    assert shifted[:, :150].max() < 0.5


def test_holes_have_none_and_take_none_from_their_neighbours() -> None:
    surface = plane(RAYS, (0.3, 0.3, 1), 2.0)
    depth = surface.depth.astype(np.float32)
    depth[50:80, 60:90] = np.nan
    depth[120, 120] = np.nan
    depth[::2, 200:] = np.nan  # single rows: no window is whole
    found = normals_of(1 / depth, RAYS, 3)
    hole = np.isnan(depth)
    assert (found[hole] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(found[~hole], axis=-1), 1, atol=1e-5)
    rest = ~hole
    rest[:, 200:] = False
    assert degrees(found, surface.normals)[rest].max() < 0.5


def test_integers_give_normals_without_terraces() -> None:
    """As 16-bit files at 256 a metre of a photograph four times as wide: steps of 4 mm from pixel to pixel."""
    surface, hit = ball(RAYS, (0.2, 0.1, 4.0), 1.3, 7.0)
    stored = replace(view_of(np.round(surface.depth * 64) / 64, focal=250.0), half_step=0.5 / 64)
    raw = degrees(all_of(stored, radius=1), surface.normals)[hit]
    smooth = degrees(all_of(without_steps(stored)), surface.normals)[hit]
    assert usual_radius(stored) == 3
    assert np.median(raw) > 5
    assert np.median(smooth) < 1
    assert np.abs(without_steps(stored).depth - stored.depth).max() <= 0.5 / 64 + 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (3, 7)])
def test_tiny_maps_have_normals_too(size: tuple[int, int]) -> None:
    found = all_of(view_of(np.full(size, 2.0)), radius=4)
    np.testing.assert_allclose(found, np.broadcast_to((0.0, 0.0, 1.0), (*size, 3)), atol=1e-6)


def test_bands_and_thinning_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    surface, _ = ball(RAYS, (0.2, 0.1, 4.0), 1.3, 7.0)
    view = view_of(surface.depth, focal=250.0)
    whole = all_of(view)
    monkeypatch.setattr("prv2cli.export.normals.BAND_PIXELS", 300 * 7)
    np.testing.assert_array_equal(all_of(view), whole)
    slanted = plane(RAYS, (0.6, 0.2, 0.8), 2.0)
    monkeypatch.setattr("prv2cli.export.normals.BAND_PIXELS", 100 * 11)
    thinned = all_of(view_of(slanted.depth, focal=250.0), step=3)
    assert thinned.shape == (67, 100, 3)
    assert degrees(thinned, slanted.normals[1::3, 1::3]).max() < 0.1
