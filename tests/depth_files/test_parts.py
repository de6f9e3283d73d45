"""The right array of an archive, the right channel of an EXR, the window that is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prv2cli.depth_files.ours.metadata import SOFTWARE, DepthMetadata
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError, UsageError
from prv2cli.files.parts import file_and_part
from prv2cli.files.protected import Protected

DEPTH = np.random.default_rng(1).uniform(1, 9, (12, 20)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 12, 20), (12, 20, 1), (1, 1, 12, 20), (1, 12, 20, 1)])
@pytest.mark.parametrize("order", "CF")
def test_axes_of_length_one(tmp_path: Path, shape: tuple[int, ...], order: Any) -> None:
    np.save(tmp_path / "a.npy", np.asarray(DEPTH.reshape(shape), order=order))
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npy", scale=1).values, DEPTH)


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (1, 3, 3), (1, 1, 4, 4)])
def test_a_matrix_is_no_map(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.ones(shape, "f4"))
    np.savez(tmp_path / "a.npz", depth=np.ones(shape, "f4"))
    for path in (tmp_path / "a.npy", tmp_path / "a.npz", tmp_path / "a.npz:depth"):
        with pytest.raises(InputError, match="matrix of a camera"):
            read_depth(path, scale=1)


def test_the_map_among_matrices_vectors_and_masks(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        K=np.eye(3),
        pose=np.eye(4),
        P=np.ones((3, 4)),
        pred=DEPTH[None],
        fov=60.0,
        mask=DEPTH > 3,
    )
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npz", scale=1).values, DEPTH)


def test_several_maps_are_asked_for_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", near=DEPTH, far=DEPTH + 1, K=np.eye(3))
    with pytest.raises(InputError, match=r"near 12x20 float32, far 12x20 float32, K 3x3 .*FILE\.npz:near"):
        read_depth(tmp_path / "a.npz", scale=1)
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npz:far", scale=1).values, DEPTH + 1)
    with pytest.raises(InputError, match=r"no array named 'x' \(found: near"):
        read_depth(tmp_path / "a.npz:x", scale=1)


def test_a_colon_in_a_name_is_part_of_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz:far", depth=DEPTH)
    (tmp_path / "a.npz:far.npz").rename(tmp_path / "a.npz:far")
    assert file_and_part(tmp_path / "a.npz:far") == (tmp_path / "a.npz:far", None)
    assert file_and_part(tmp_path / "b:1.npy") == (tmp_path / "b:1.npy", None)


def test_a_part_protects_its_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", near=DEPTH)
    inputs = Protected()
    inputs.add("the coarse map", tmp_path / "a.npz:near")
    with pytest.raises(UsageError, match="that is the coarse map"):
        inputs.check("-o", tmp_path / "a.npz")


# --- EXR ----------------------------------------------------------------------------------------------------


def exr(path: Path, channels: dict[str, np.ndarray], **header: Any) -> Path:
    module = pytest.importorskip("OpenEXR")
    module.File(
        {"compression": module.ZIP_COMPRESSION, "type": module.scanlineimage, **header}, channels
    ).write(str(path))
    return path


@pytest.mark.parametrize(
    "name", ["Z", "Y", "depth.V", "depth.Z", "Depth.V", "ViewLayer.Depth.Z", "view.depth.Y", "any"]
)
def test_the_usual_names_of_depth(tmp_path: Path, name: str) -> None:
    other = {} if name in ("any", "Y") else {f"colour.{c}": DEPTH + i for i, c in enumerate("RGB")}
    other |= {f"N.{c}": DEPTH for c in "XYZ"} if other else {}
    found = read_depth(exr(tmp_path / "a.exr", {name: DEPTH, **other}), scale=1)
    np.testing.assert_array_equal(found.values, DEPTH)


@pytest.mark.parametrize("vector", ["XY", "XYZ"])
def test_the_y_of_a_vector_is_no_depth(tmp_path: Path, vector: str) -> None:
    path = exr(tmp_path / "a.exr", {f"flow.{axis}": DEPTH for axis in vector})
    with pytest.raises(InputError, match=r"FILE\.exr:NAME"):
        read_depth(path, scale=1)


def test_equal_channels_are_one_map_and_others_a_picture(tmp_path: Path) -> None:
    grey = exr(tmp_path / "grey.exr", {"R": DEPTH, "G": DEPTH, "B": DEPTH, "A": np.ones_like(DEPTH)})
    np.testing.assert_array_equal(read_depth(grey, scale=1).values, DEPTH)
    holes = np.where(np.median(DEPTH) < DEPTH, np.nan, DEPTH).astype(np.float32)
    grey = exr(tmp_path / "holes.exr", {"R": holes, "G": holes, "B": holes})
    np.testing.assert_array_equal(read_depth(grey, scale=1).values, holes)
    colour = exr(tmp_path / "colour.exr", {"R": DEPTH, "G": DEPTH + 1, "B": DEPTH})
    with pytest.raises(InputError, match=r"colour image.*FILE\.exr:R"):
        read_depth(colour, scale=1)
    np.testing.assert_array_equal(read_depth(tmp_path / "colour.exr:G", scale=1).values, DEPTH + 1)


def test_several_depths_are_asked_for_by_name(tmp_path: Path) -> None:
    exr(tmp_path / "a.exr", {"one.Z": DEPTH, "two.Z": DEPTH + 1})
    with pytest.raises(InputError, match=r"several may be depth \(one\.Z, two\.Z\).*FILE\.exr:one\.Z"):
        read_depth(tmp_path / "a.exr", scale=1)
    np.testing.assert_array_equal(read_depth(tmp_path / "a.exr:two.Z", scale=1).values, DEPTH + 1)


def test_the_metadata_of_layers_are_about_their_depth(tmp_path: Path) -> None:
    layers: dict[str, np.ndarray] = {"Z": DEPTH, "mask": np.ones_like(DEPTH), "confidence": DEPTH / 10}
    exr(tmp_path / "a.exr", layers, prv2=DepthMetadata().to_json())
    for name in ("a.exr", "a.exr:Z"):
        assert read_depth(tmp_path / name).metadata.software == SOFTWARE
    for name in ("mask", "confidence"):
        with pytest.raises(UsageError, match=rf"a\.exr:{name} does not say its unit"):
            read_depth(tmp_path / f"a.exr:{name}")


@pytest.mark.parametrize(
    ("left", "top", "width", "height"),
    [(0, 0, 20, 12), (3, 2, 30, 20), (-4, -3, 10, 6), (-4, 2, 30, 9), (5, 0, 12, 12)],
)
def test_the_display_window_is_the_map(tmp_path: Path, left: int, top: int, width: int, height: int) -> None:
    """Of 20 x 12 pixels at (left, top) of a window that starts at (7, -5)."""
    x, y = 7, -5
    windows = {
        "dataWindow": (np.array([x + left, y + top], "i4"), np.array([x + left + 19, y + top + 11], "i4")),
        "displayWindow": (np.array([x, y], "i4"), np.array([x + width - 1, y + height - 1], "i4")),
    }
    found = read_depth(exr(tmp_path / "a.exr", {"Z": DEPTH}, **windows), scale=1)
    expected = np.full((height, width), np.nan, np.float32)
    for row in range(height):
        for column in range(width):
            if 0 <= row - top < 12 and 0 <= column - left < 20:
                expected[row, column] = DEPTH[row - top, column - left]
    np.testing.assert_array_equal(found.values, expected)
    assert bool(found.notes) == ((left, top, width, height) != (0, 0, 20, 12))


@pytest.mark.parametrize("size", [(100_000, 100_000), (16_777_229, 19)])
def test_windows_that_would_fill_the_memory_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    window = (np.array([0, 0], "i4"), np.array(size, "i4") - 1)
    with pytest.raises(InputError, match=r"more than|display window of 16777229 x 19 around 20 x 12"):
        read_depth(exr(tmp_path / "a.exr", {"Z": DEPTH}, displayWindow=window), scale=1)
