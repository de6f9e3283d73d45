"""Points: where they lie, which pixels become one, read back with a reader that did not write them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_arrays import on_disk
from views import colours, load_3d, view_of

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.export.points import PointsReport, place, smallest_step, write_points
from prv2cli.export.view import View


def written(view: View, **how: int) -> tuple[Any, PointsReport]:
    file = io.BytesIO()
    report = write_points(file, view, **how)
    return load_3d(file.getvalue(), "ply"), report


def test_a_point_known_by_hand() -> None:
    """Pixel (0, 0) of 4 x 2 with a focal length of 2: its centre is 1.5 pixels left of and 0.5 above the middle."""
    depth = np.full((2, 4), np.nan)
    depth[0, 0] = 4.0
    cloud, report = written(view_of(depth, focal=2.0))
    assert report == (1, 1)
    np.testing.assert_allclose(cloud.vertices, [[-3.0, 1.0, -4.0]])


def test_inverse_depth_lies_where_depth_would() -> None:
    depth = np.array([[2.0, 4.0], [np.nan, 8.0]])
    inverse = view_of(1 / depth, metadata=DepthMetadata(unit="1/metre", kind="inverse"))
    one, other = written(view_of(depth))[0], written(inverse)[0]
    np.testing.assert_allclose(other.vertices, one.vertices, rtol=1e-6)
    assert len(one.vertices) == 3


def test_colours_go_with_their_points_and_holes_become_none() -> None:
    depth = np.full((20, 30), 2.0)
    depth[3, 5], depth[10:, :4] = 0.0, np.nan  # what is not above 0 is no depth either
    cloud, report = written(view_of(depth, colours(20, 30)))
    known = np.isfinite(depth) & (depth > 0)
    rows, columns = np.nonzero(known)
    assert report.points == known.sum() == len(cloud.vertices)
    np.testing.assert_array_equal(cloud.visual.vertex_colors[:, :2], np.stack([columns, rows], axis=1))


def test_without_a_photograph_there_are_no_colours() -> None:
    file = io.BytesIO()
    write_points(file, view_of(np.ones((2, 2))))
    head = file.getvalue().partition(b"end_header")[0].decode()
    assert "red" not in head
    assert "format binary_little_endian 1.0" in head
    assert "right-handed, metres: x right, y up, z towards the camera" in head


def test_sixteen_bits_of_colour_become_eight() -> None:
    rgb = np.full((1, 1, 3), 65535, np.uint16)
    assert (written(view_of(np.ones((1, 1)), rgb))[0].visual.vertex_colors[0, :3] == 255).all()


def test_more_points_than_wanted_are_thinned_evenly() -> None:
    depth = np.full((30, 50), 2.0)
    cloud, report = written(view_of(depth, colours(30, 50)), max_points=400)
    assert report == (15 * 25, 2)
    seen = np.unique(cloud.visual.vertex_colors[:, 0])
    assert (np.diff(seen) == report.step).all()
    assert written(view_of(depth), max_points=0)[1] == (1500, 1)


@pytest.mark.parametrize("shape", [(1000, 1), (1, 1000), (1000, 3)])
def test_a_strip_is_thinned_along_its_length(shape: tuple[int, int]) -> None:
    cloud, report = written(view_of(np.full(shape, 2.5)), max_points=100)
    assert report == (100, 10)
    across = cloud.vertices[:, int(np.argmax(shape))]
    np.testing.assert_allclose(across, 0, atol=1e-6)  # the middle of its width


@pytest.mark.parametrize(("most", "step"), [(100, 1), (99, 2), (25, 2), (24, 3)])
def test_the_smallest_step_that_fits(most: int, step: int) -> None:
    assert smallest_step(10, 10, lambda rows, columns: rows * columns <= most) == step


def test_a_map_on_disk_gives_the_same(tmp_path: Path) -> None:
    depth = np.linspace(1, 5, 600, dtype=np.float32).reshape(20, 30)
    depth[4] = np.nan
    view = view_of(depth, colours(20, 30))
    stored: Any = {"depth": on_disk(depth, tmp_path), "rgb": on_disk(colours(20, 30), tmp_path)}
    for most in (0, 100):
        one, other = written(view, max_points=most)[0], written(replace(view, **stored), max_points=most)[0]
        np.testing.assert_array_equal(one.vertices, other.vertices)
        np.testing.assert_array_equal(one.visual.vertex_colors, other.visual.vertex_colors)


def test_place_is_right_handed() -> None:
    """What is right of, above and nearer than another has larger x, y and z."""
    here, right, above, near = (
        place(np.array(z), np.array(x), np.array(y))
        for z, x, y in ((4, 0, 0), (4, 0.1, 0), (4, 0, -0.1), (3, 0, 0))
    )
    assert right[0] > here[0]
    assert above[1] > here[1]
    assert near[2] > here[2]
    axes = np.stack([right - here, above - here, near - here])
    assert np.linalg.det(axes) > 0
