"""Focal length and shift of point maps, against what the authors of MoGe-2 find with scipy, and what must be found.

`moge2_focal` holds scenes of which the camera is known; `moge2_post` all that follows the network.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from golden_rules import Golden, normal, uniform
from point_scenes import point_scene

from prv2cli.model.coarse.moge2 import PointMap, metric_output
from prv2cli.model.coarse.point_map import Camera, plane_positions, recover_camera

FOCAL = Golden.load("moge2_focal")
POST = Golden.load("moge2_post")
EARLY_STOP = 2e-4  # the authors' solver is content with this, and so is ours


@pytest.mark.parametrize("case", FOCAL.meta["cases"], ids=lambda case: case["name"])
def test_camera_of_a_scene(case: dict[str, Any]) -> None:
    scene = point_scene(case, FOCAL.seed)
    assert FOCAL.error(f"{case['name']}_points", scene.points.permute(1, 2, 0)) < 1e-6
    expected = FOCAL.meta["values"][case["name"]]
    found = recover_camera(scene.points, scene.valid, case["focal_given"])
    assert found.focal == pytest.approx(expected["focal"], rel=EARLY_STOP)
    assert found.shift == pytest.approx(expected["shift"], rel=EARLY_STOP)
    if "converged_focal" in expected:
        assert found.focal == pytest.approx(expected["converged_focal"], rel=EARLY_STOP)
        assert found.shift == pytest.approx(expected["converged_shift"], rel=EARLY_STOP)


def test_without_noise_it_is_the_true_camera() -> None:
    case = next(case for case in FOCAL.meta["cases"] if case["name"] == "plane_clean")
    scene = point_scene(case, FOCAL.seed)
    found = recover_camera(scene.points, scene.valid)
    assert found.focal == pytest.approx(case["focal"], rel=1e-6)
    assert found.shift * case["scale"] == pytest.approx(case["shift"], rel=1e-6)


def test_a_wall_seen_straight_on_keeps_the_points_own_camera() -> None:
    """Any focal length fits it with some shift."""
    u, v = plane_positions(90, 120, 4 / 3)
    points = 3 * torch.stack([u / 1.25, v / 1.25, torch.ones_like(u)])
    found = recover_camera(points, torch.ones(90, 120, dtype=torch.bool))
    assert found.focal == pytest.approx(1.25)
    assert found.shift == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("focal", [None, 1.5])
def test_points_that_tell_nothing(focal: float | None) -> None:
    everywhere = torch.ones(20, 30, dtype=torch.bool)
    for points in (torch.zeros(3, 20, 30), torch.full((3, 20, 30), math.nan), torch.full((3, 20, 30), 1e30)):
        found = recover_camera(points, everywhere, focal)
        assert math.isfinite(found.focal)
        assert math.isfinite(found.shift)
    assert recover_camera(torch.zeros(3, 20, 30), everywhere, None) == Camera(1.0, 0.0, known=False)


def test_a_camera_that_nobody_knows_has_no_focal_length() -> None:
    found = post_input()
    out = metric_output(found, [Camera(1.0, 0.0, known=False)])
    assert out.focal is not None
    assert float(out.focal[0]) == 0


def test_positions_reach_to_the_corners_of_any_grid() -> None:
    """Half a cell further out than the outermost centres the distance is 1, whatever the number of cells."""
    for rows, columns in ((3, 4), (6, 8), (5, 5)):
        u, v = plane_positions(rows, columns, 4 / 3)
        corner = torch.stack([u[0, 0] * columns / (columns - 1), v[0, 0] * rows / (rows - 1)])
        assert corner.norm() == pytest.approx(1)
        assert corner[0] / corner[1] == pytest.approx(4 / 3)


def post_input() -> PointMap:
    """The point map of `moge2_post`, with points behind the camera on a row that is not sampled."""
    case, seed = POST.meta["case_parameters"], POST.seed
    scene = point_scene(case, seed)
    points = scene.points.clone()
    points[:, 35, 45:55] = torch.tensor([0.1, 0.1, -case["shift"] / case["scale"] - 0.5])[:, None]
    shape = (case["height"], case["width"])
    inside = point_scene({**case, "mask": "ellipse"}, seed).valid
    share = uniform("post_mask", seed, shape, 0, 1)
    validity = torch.where(inside, 0.5 + 0.5 * share, 0.5 * share)
    validity[20, 30] = 0.5
    normals = normal("post_normal", seed, (*shape, 3)).double()
    normals /= normals.norm(dim=-1, keepdim=True)
    assert POST.error("in_points", points.permute(1, 2, 0)) < 1e-6
    assert POST.error("in_mask", validity) < 1e-6
    scale = torch.tensor([case["metric_scale"]])
    return PointMap(points[None], validity[None, None], scale, normals.permute(2, 0, 1)[None].float(), [])


@pytest.mark.parametrize(("tag", "fov"), [("auto", None), ("fov55", 55.0)])
def test_all_that_follows_the_network(tag: str, fov: float | None) -> None:
    found, (height, width) = post_input(), (72, 100)
    given = None
    if fov is not None:  # degrees across -> in half diagonals
        given = width / math.hypot(width, height) / math.tan(math.radians(fov) / 2)
    camera = recover_camera(found.points[0], found.validity[0, 0] > 0.5, given)
    expected = POST.meta["values"][tag]
    assert camera.focal == pytest.approx(expected["focal"], rel=EARLY_STOP)
    assert camera.shift == pytest.approx(expected["shift"], rel=EARLY_STOP)

    out = metric_output(found, [camera])
    assert out.valid is not None
    assert out.focal is not None
    valid = out.valid[0, 0]
    assert np.array_equal(POST.stored(f"{tag}_proj_mask_mask", valid), POST.arrays[f"{tag}_proj_mask_mask"])
    reference = POST.arrays[f"{tag}_proj_mask_depth"]  # infinite where it is not valid
    finite = np.isfinite(reference)
    stored = POST.stored(f"{tag}_proj_mask_depth", torch.where(valid, out.depth[0, 0], math.inf))
    assert np.array_equal(finite, np.isfinite(stored))
    assert np.abs(stored[finite] - reference[finite]).max() < EARLY_STOP * reference[finite].max()
    diagonal = math.hypot(width, height)
    intrinsics = POST.arrays[f"{tag}_proj_mask_intrinsics"]
    assert float(out.focal[0]) * diagonal / 2 / width == pytest.approx(intrinsics[0, 0], rel=EARLY_STOP)
    assert float(out.focal[0]) * diagonal / 2 / height == pytest.approx(intrinsics[1, 1], rel=EARLY_STOP)
    if tag == "auto":
        assert out.normals is not None
        normals = torch.where(valid, out.normals[0], 0).permute(1, 2, 0)
        assert POST.error("auto_proj_mask_normal", normals) < 3e-4


def test_what_lies_behind_the_camera_is_not_valid() -> None:
    """A shift that leaves points behind the camera: no depth there, and the value stays positive."""
    points = torch.zeros(1, 3, 2, 2)
    points[0, 2] = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    found = PointMap(points, torch.ones(1, 1, 2, 2), torch.tensor([2.0]), None, [])
    out = metric_output(found, [Camera(1.0, -0.75)])
    assert out.valid is not None
    assert out.valid[0, 0].tolist() == [[True, True], [False, False]]
    assert out.depth[0, 0, 0].tolist() == [0.5, 2.5]
    assert (out.depth > 0).all()
