"""Converting depth files and telling what they hold."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from depth_maps import (
    KINDS,
    META,
    PROVENANCE,
    TEN,
    clean,
    npy,
    scene,
    skip_without_codec,
    steps,
)
from PIL import Image

from prv2cli.depth_files.convert import convert
from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth


def test_info(folder: Path) -> None:
    path = folder / "a.tif"
    write_depth(path, scene(), META, scale=2000)
    info = json.loads(json.dumps(depth_info(path), allow_nan=False))
    stored = steps(scene(), 2000)
    valid = stored[stored > 0] / 2000
    assert (info["format"], info["dtype"], info["width"], info["height"]) == ("tiff", "uint16", 83, 61)
    assert (info["unit"], info["kind"], info["scale"], info["model"]) == ("metre", "depth", 2000, "lite")
    assert info["invalid"] == np.count_nonzero(stored == 0)
    assert info["clipped"] == np.count_nonzero(scene()[np.isfinite(scene())] * 2000 > 65535.5)
    assert (info["min"], info["max"]) == pytest.approx((valid.min(), valid.max()))
    assert info["median"] == pytest.approx(np.median(valid))
    assert depth_info(io.BytesIO(npy(TEN * np.nan)))["median"] is None


def test_info_tells_where_a_flag_overrules_the_file(folder: Path) -> None:
    write_depth(folder / "a.tif", scene(), META)
    assert depth_info(folder / "a.tif", scale=256)["notes"] == []
    (note,) = depth_info(folder / "a.tif", scale=1000)["notes"]
    assert note.startswith(
        "it says metre at a scale of 256 of itself, and is read as metre at a scale of 1000"
    )


@pytest.mark.parametrize("middle", ["tif", "npy", "npz", "exr"])
@pytest.mark.parametrize("scale", [256.0, 1000.0])
def test_convert_keeps_every_16_bit_number(folder: Path, middle: str, scale: float) -> None:
    skip_without_codec(middle)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(every).save(folder / "a.png")
    convert(folder / "a.png", folder / f"b.{middle}", scale=scale, dtype="float32")
    report = convert(folder / f"b.{middle}", folder / "c.png", out_scale=scale)
    assert (report.clipped, report.invalid) == (0, 1)
    assert np.array_equal(np.asarray(Image.open(folder / "c.png")), every)


@pytest.mark.parametrize(("fmt", "dtype"), KINDS[2:])
def test_convert_of_floats(folder: Path, fmt: str, dtype: Any) -> None:
    skip_without_codec(fmt)
    write_depth(folder / "a.npy", scene(), META)
    convert(folder / "a.npy", folder / f"b.{fmt}", dtype=dtype)
    there = read_depth(folder / f"b.{fmt}")
    assert there.values.tobytes() == clean(scene()).tobytes()
    assert all(getattr(there.metadata, key) == getattr(META, key) for key in PROVENANCE)
    convert(folder / f"b.{fmt}", folder / f"c.{fmt}", dtype=dtype, inverse=True)
    assert read_depth(folder / f"c.{fmt}").metadata.unit == "1/metre"
    convert(folder / f"c.{fmt}", folder / f"d.{fmt}", dtype=dtype, inverse=None)
    assert read_depth(folder / f"d.{fmt}").metadata.kind == "inverse"
    convert(folder / f"d.{fmt}", folder / f"d.{fmt}", dtype=dtype, inverse=False)  # onto itself
    np.testing.assert_allclose(read_depth(folder / f"d.{fmt}").values, clean(scene()), rtol=2e-7)


def test_convert_remembers_what_was_clipped(folder: Path) -> None:
    depth = np.array([[1, 300, 400]], np.float32)
    assert write_depth(folder / "a.png", depth, META).clipped == 2
    assert convert(folder / "a.png", folder / "b.npy").clipped == 0
    assert read_depth(folder / "b.npy").metadata.clipped == 2
    assert convert(folder / "b.npy", folder / "c.png", out_scale=1000).clipped == 2
    assert read_depth(folder / "c.png").metadata.clipped == 2


def test_far_pixels_of_a_map_without_a_zero_stay(folder: Path) -> None:
    """Floats that prv2 wrote of a relative inverse map: 0 and less are the farthest, not holes."""
    values = np.array([[-0.5, 0, 0.25, 2, np.nan]], np.float32)
    about = DepthMetadata(unit="1/relative", kind="inverse")
    write_depth(folder / "a.npy", values, about, inverse=True, signed=True)
    info = depth_info(folder / "a.npy")
    assert (info["invalid"], info["min"]) == (1, -0.5)
    np.testing.assert_array_equal(read_depth(folder / "a.npy").values, values)
    assert convert(folder / "a.npy", folder / "b.tif").invalid == 1
    np.testing.assert_array_equal(
        read_depth(folder / "b.tif").values, values
    )  # floats: there is no 16-bit scale
    assert convert(folder / "b.tif", folder / "c.npy", inverse=False).invalid == 1
    depth = read_depth(folder / "c.npy")
    assert depth.metadata.unit == "relative"
    np.testing.assert_allclose(depth.values, [[500, 500, 4, 0.5, np.nan]], rtol=1e-6)
    # Told a scale, they are metres, which have a zero.
    assert np.isnan(read_depth(folder / "a.npy", scale=1).values).sum() == 3


def test_floats_of_others_without_a_unit_keep_what_is_0_or_less(folder: Path) -> None:
    """The sky of Depth Anything, the nearest half of Marigold; of integers 0 is no depth."""
    inverse, depth = np.array([[0, 0.5, 4, np.nan]], np.float32), np.array([[-1, 0, 0.75]], np.float32)
    np.save(folder / "inverse.npy", inverse)
    np.save(folder / "depth.npy", depth)
    convert(folder / "inverse.npy", folder / "inverse.tif", relative=True, kind="inverse", inverse=True)
    np.testing.assert_array_equal(read_depth(folder / "inverse.tif").values, inverse)
    convert(folder / "depth.npy", folder / "depth.tif", relative=True)
    np.testing.assert_array_equal(read_depth(folder / "depth.tif").values, depth)
    convert(folder / "depth.npy", folder / "metres.tif", scale=1)
    assert np.isnan(read_depth(folder / "metres.tif").values).sum() == 2


def test_relative_depth_without_a_zero_in_it_is_turned_over_as_it_is(folder: Path) -> None:
    values = np.array([[0.5, 2, 4000]], np.float32)
    write_depth(folder / "a.npy", values, DepthMetadata(unit="relative"), signed=True)
    convert(folder / "a.npy", folder / "b.npy", inverse=True)
    np.testing.assert_allclose(np.load(folder / "b.npy"), 1 / values)


def test_numbers_that_no_float32_holds_are_no_depth(folder: Path) -> None:
    np.save(folder / "a.npy", np.array([[0.5, 2, 1.7e308]]))
    convert(folder / "a.npy", folder / "b.npy", relative=True)
    np.testing.assert_array_equal(np.load(folder / "b.npy"), np.array([[0.5, 2, np.nan]], np.float32))


def test_a_map_of_others_has_no_depth_at_zero(folder: Path) -> None:
    np.save(folder / "a.npy", np.array([[-0.5, 0, 0.25]], np.float32))
    assert np.isnan(read_depth(folder / "a.npy", relative=True).values).sum() == 2


def test_a_relative_map_is_not_rounded_to_the_steps_of_metres(folder: Path) -> None:
    values = np.linspace(0.001, 1, 200, dtype=np.float32).reshape(10, 20)
    np.save(folder / "a.npy", values)
    convert(folder / "a.npy", folder / "b.tif", relative=True)
    np.testing.assert_array_equal(read_depth(folder / "b.tif").values, values)
    convert(folder / "a.npy", folder / "c.tif", relative=True, dtype="uint16")
    assert depth_info(folder / "c.tif")["dtype"] == "uint16"


@pytest.mark.parametrize(("name", "tiled"), [("a.png", False), ("a.tif", False), ("a.tif", True)])
def test_far_pixels_of_a_map_without_a_zero_are_no_holes_in_16_bits(
    folder: Path, name: str, tiled: bool
) -> None:
    """Read by other programs, for whom 0 is no depth."""
    values = np.array([[-0.5, 0, 0.001, 2, np.nan]], np.float32)
    about = DepthMetadata(unit="1/relative", kind="inverse")
    report = write_depth(folder / name, values, about, scale=250, inverse=True, signed=True, tiled=tiled)
    path = folder / name
    stored = tifffile.imread(path) if name.endswith("tif") else np.asarray(Image.open(path))
    assert stored.tolist() == [[1, 1, 1, 500, 0]]
    assert report.invalid == 1


def test_integers_keep_their_scale_unless_another_is_asked_for(folder: Path) -> None:
    write_depth(folder / "a.png", np.array([[1.234, 2.001]], np.float32), DepthMetadata(), scale=1000)
    cases = [({}, 1000), ({"out_scale": 256}, 256), ({"inverse": True}, 256), ({"scale": 500.0}, 256)]
    for options, scale in cases:
        convert(folder / "a.png", folder / "b.tif", **options)  # type: ignore[arg-type]
        assert read_depth(folder / "b.tif").metadata.scale == scale, options
    np.save(folder / "c.npy", np.ones((2, 3), np.float32))
    convert(folder / "c.npy", folder / "d.png", scale=1)
    assert read_depth(folder / "d.png").metadata.scale == 256
