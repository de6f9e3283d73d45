"""16-bit PNGs as another decoder reads them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from views import camera, plane, view_of

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.recognise import is_by_prv2
from prv2cli.export.targets import named_target
from prv2cli.export.write import Options, export


def read(path: Path) -> np.ndarray:
    """(H, W) or (H, W, 3) in the order red, green, blue."""
    pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


def test_a_picture_is_16_bit_grey_and_near_is_white(tmp_path: Path) -> None:
    target = named_target("picture", tmp_path / "near.png", "--picture")
    depth = 1 / np.linspace(0.1, 1.1, 101).reshape(1, 101)
    export(view_of(depth), [target], Options(percentiles=(0, 100)))
    grey = read(target.path)
    assert (grey.dtype, grey.shape) == (np.uint16, (1, 101))
    np.testing.assert_allclose(grey[0], np.linspace(0, 65535, 101), atol=1.5)


def test_percentiles_are_black_and_white_and_no_depth_is_black(tmp_path: Path) -> None:
    target = named_target("picture", tmp_path / "near.png", "--picture")
    depth = 1 / np.linspace(0.1, 1.1, 101).reshape(1, 101)
    depth[0, 50] = np.nan
    export(view_of(depth), [target], Options(percentiles=(10, 90)))
    grey = read(target.path)[0]
    assert (grey[:10] == 0).all()
    assert (grey[91:] == 65535).all()
    assert grey[50] == 0
    assert 30_000 < grey[51] < 36_000


def test_a_relative_map_without_a_camera_becomes_a_picture(tmp_path: Path) -> None:
    from dataclasses import replace

    target = named_target("picture", tmp_path / "near.png", "--picture")
    relative = DepthMetadata(unit="1/relative", kind="inverse")
    view = replace(view_of(np.array([[1.0, 2, 3]]), metadata=relative), camera=None)
    export(view, [target], Options(percentiles=(0, 100)))
    np.testing.assert_allclose(read(target.path), [[0, 32768, 65535]], atol=1)


def test_normals_are_16_bit_colours_with_y_up_or_down(tmp_path: Path) -> None:
    depth = plane(camera(20, 30).rays(), (0.3, 0.4, 1), 2.0).depth
    depth[4, 5] = np.nan
    up, down = (named_target("normals", tmp_path / name, "--normals") for name in ("up.png", "down.png"))
    export(view_of(depth), [up])
    export(view_of(depth), [down], Options(directx=True))
    opengl, directx = read(up.path), read(down.path)
    assert opengl.dtype == np.uint16
    true = np.array((0.3, 0.4, 1)) / 1.25**0.5
    np.testing.assert_allclose(opengl[10, 10] / 65535 * 2 - 1, true, atol=1e-3)
    np.testing.assert_allclose(directx[10, 10] / 65535 * 2 - 1, true * (1, -1, 1), atol=1e-3)
    np.testing.assert_array_equal(opengl[4, 5], 0)
    np.testing.assert_array_equal(directx[4, 5], 0)


def test_pictures_say_who_made_them(tmp_path: Path) -> None:
    """So that no one takes them for photographs, and a batch knows them for its own."""
    targets = [
        named_target("picture", tmp_path / "p.png", "--picture"),
        named_target("normals", tmp_path / "n.png", "--normals"),
    ]
    export(view_of(np.full((4, 5), 2.0)), targets)
    assert all(is_by_prv2(target.path) for target in targets)
