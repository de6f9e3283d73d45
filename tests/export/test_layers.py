"""EXR files as OpenEXR reads them: names, types, values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
from views import camera, colours, plane, view_of

from prv2cli.depth_files.ours.metadata import SOFTWARE, DepthMetadata
from prv2cli.depth_files.read import read_depth
from prv2cli.export.camera import Focal
from prv2cli.export.targets import Target, named_target
from prv2cli.export.view import View, read_view
from prv2cli.export.write import Options, export

SIZE = (20, 30)


def slanted(*, hole: bool = True, **parts: Any) -> View:
    depth = plane(camera(*SIZE).rays(), (0.3, 0.4, 1), 2.0).depth.astype(np.float32)
    if hole:
        depth[4, 5] = np.nan
    return view_of(depth, **parts)


def channels(path: Path) -> dict[str, np.ndarray]:
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return {name: channel.pixels for name, channel in file.channels().items()}


def test_layers_have_the_names_that_nuke_and_blender_read(tmp_path: Path) -> None:
    path = tmp_path / "all.exr"
    confidence = np.full(SIZE, 0.5, np.float32)
    confidence[0, 0] = np.nan
    view = slanted(rgb=colours(*SIZE), confidence=confidence)
    (found,) = export(view, [Target("layers", path)])
    layers = channels(path)
    assert (
        set(layers)
        == {"R", "G", "B", "Z", "N.X", "N.Y", "N.Z", "confidence", "mask"}
        == set(found["channels"])
    )
    assert {name: layer.dtype.name for name, layer in layers.items() if name in ("Z", "R", "N.X")} == {
        "Z": "float32",
        "R": "float16",
        "N.X": "float16",
    }
    np.testing.assert_array_equal(layers["Z"], np.nan_to_num(view.depth))
    np.testing.assert_array_equal(layers["mask"], np.isfinite(view.depth))
    assert (layers["confidence"][0, 0], layers["confidence"][1, 1]) == (0, 0.5)
    assert all(np.isfinite(layer).all() for layer in layers.values()), "a NaN spreads in a compositor"
    true = np.array((0.3, 0.4, 1)) / 1.25**0.5
    found_normal = [layers[f"N.{axis}"][10, 10] for axis in "XYZ"]
    np.testing.assert_allclose(found_normal, true, atol=2e-3)


def test_colours_are_scene_linear(tmp_path: Path) -> None:
    path = tmp_path / "linear.exr"
    for rgb, top in (
        (np.full((*SIZE, 3), 128, np.uint8), 255),
        (np.full((*SIZE, 3), 128 * 257, np.uint16), 65535),
    ):
        export(slanted(rgb=rgb), [Target("layers", path)])
        assert int(rgb[0, 0, 0]) / top == 128 / 255
        np.testing.assert_allclose(
            channels(path)["G"], 0.2158605, rtol=1e-3
        )  # of 128 in sRGB, by IEC 61966-2-1


def test_what_there_is_not_has_no_layer(tmp_path: Path) -> None:
    path = tmp_path / "bare.exr"
    export(slanted(), [Target("layers", path)])
    assert set(channels(path)) == {"Z", "N.X", "N.Y", "N.Z", "mask"}


def test_it_is_a_depth_file_of_metres_for_prv2(tmp_path: Path) -> None:
    path = tmp_path / "inverse.exr"
    view = slanted()
    inverse = replace(
        view,
        depth=1 / view.depth,
        metadata=DepthMetadata(unit="1/metre", kind="inverse", focal_px=120.0, scale=256.0),
    )
    export(inverse, [Target("layers", path)])
    found = read_depth(path)
    assert (found.metadata.unit, found.metadata.kind, found.metadata.focal_px) == ("metre", "depth", 120.0)
    np.testing.assert_allclose(found.values, view.depth, rtol=1e-6)


def test_it_tells_the_camera_that_it_was_made_with(tmp_path: Path) -> None:
    """So that what is exported from it needs no --focal-px again."""
    path, view = tmp_path / "a.exr", slanted()
    assert view.camera is not None
    camera = replace(view.camera, focal=Focal(99.0, "given"), principal=(10.0, 15.25))
    metadata = replace(view.metadata, focal_px=55.0, focal_origin="exif")
    export(replace(view, camera=camera, metadata=metadata), [Target("layers", path)])
    again = read_view(path, None, targets=[Target("mesh", tmp_path / "a.glb")])
    assert again.camera == camera
    (note,) = [note for note in again.notes if "principal point" in note]
    assert "0.1667, 0.1750 (Blender: Shift X, Y)" in note


def test_a_principal_point_in_the_middle_takes_the_place_of_the_files_own(tmp_path: Path) -> None:
    path, view = tmp_path / "a.exr", slanted()
    metadata = replace(view.metadata, extra={"principal_px": [10.0, 15.25], "lens": "b"})
    export(replace(view, metadata=metadata), [Target("layers", path)])
    again = read_view(path, None, targets=[Target("mesh", tmp_path / "a.glb")])
    assert (again.camera, again.metadata.extra) == (view.camera, {"lens": "b"})


def test_so_it_is_when_another_program_wrote_the_depth(tmp_path: Path) -> None:
    path = tmp_path / "theirs.exr"
    view = replace(slanted(), metadata=DepthMetadata(software="unknown", version="unknown"))
    export(view, [Target("layers", path)])
    assert read_depth(path).metadata.software == SOFTWARE


def test_what_is_too_far_for_a_float_is_no_depth(tmp_path: Path) -> None:
    values = np.full(SIZE, 0.5, np.float32)
    values[2, 3] = 1e-40
    export(
        view_of(values, metadata=DepthMetadata(unit="1/metre", kind="inverse")),
        [Target("layers", tmp_path / "a.exr")],
    )
    layers = channels(tmp_path / "a.exr")
    assert (layers["Z"][2, 3], layers["mask"][2, 3], layers["Z"].max()) == (0, 0, 2)


def test_normals_alone_are_a_picture(tmp_path: Path) -> None:
    up, down = (named_target("normals", tmp_path / name, "--normals") for name in ("up.exr", "down.exr"))
    export(slanted(), [up])
    export(slanted(), [down], Options(directx=True))
    opengl, directx = channels(up.path), channels(down.path)
    assert set(opengl) == {"R", "G", "B"}
    assert opengl["R"].dtype == np.float32
    np.testing.assert_allclose(opengl["G"][10, 10], 0.4 / 1.25**0.5, atol=1e-4)
    np.testing.assert_array_equal(directx["G"], -opengl["G"])
    np.testing.assert_array_equal(directx["B"], opengl["B"])
    assert (opengl["R"][4, 5], opengl["G"][4, 5], opengl["B"][4, 5]) == (0, 0, 0)
