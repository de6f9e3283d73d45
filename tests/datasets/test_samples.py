"""The arithmetic that the layouts share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prv2cli.datasets.samples import Sample, disparity_to_depth, planar_depth, thinned
from prv2cli.resampling.maps import bilinear, nearest


def test_disparity_to_depth_knows_what_is_no_depth() -> None:
    disparity = np.array([[10, 0, -5, np.nan, np.inf, 1e-45]], np.float32)
    depth = disparity_to_depth(disparity, 100.0, 0.5)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, [[5, np.nan, np.nan, np.nan, np.nan, np.nan]])


def test_planar_depth_of_rays_of_any_length() -> None:
    rays = np.array([[[0, 0, -2.0], [3, 0, -4], [0, 6, 8]]])
    np.testing.assert_allclose(planar_depth(np.array([[7.0, 5, 10]]), rays), [[7, 4, 8]])


def test_bilinear_is_exact_on_planes_and_keeps_holes_small() -> None:
    y, x = np.mgrid[:6, :8]
    plane = (2 * x + 3 * y + 1).astype(np.float32)
    larger = bilinear(plane, (12, 24))
    rows, columns = (np.arange(12) + 0.5) / 2 - 0.5, (np.arange(24) + 0.5) / 3 - 0.5
    expected = 2 * columns.clip(0, 7)[None] + 3 * rows.clip(0, 5)[:, None] + 1
    np.testing.assert_allclose(larger, expected, rtol=1e-6)
    plane[0, 0] = np.nan
    # Three rows and four columns of the larger map lie less than a pixel from the hole.
    assert np.isnan(bilinear(plane, (12, 24))).sum() == 3 * 4
    np.testing.assert_array_equal(bilinear(plane, (6, 8)), plane)
    np.testing.assert_array_equal(bilinear(np.ones((1, 1)), (3, 2)), np.ones((3, 2)))


def test_nearest_takes_the_pixel_below_the_centre() -> None:
    values = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(nearest(values, (4, 6)), np.kron(values, np.ones((2, 2))))
    np.testing.assert_array_equal(nearest(values, (1, 1)), [[4]])


def test_a_sample_knows_its_valid_pixels() -> None:
    truth = np.array([[1, np.nan]], np.float32)
    assert Sample("a", np.zeros((1, 2, 3), np.uint8), truth).valid.tolist() == [[True, False]]


def test_frames_are_counted_in_each_folder_anew() -> None:
    frames = [Path(name) for name in ("b/2", "a/3", "a/1", "b/1", "a/2")]
    assert thinned(frames, 2) == [Path("a/1"), Path("a/3"), Path("b/1")]
    assert thinned(frames, 1) == sorted(frames)
