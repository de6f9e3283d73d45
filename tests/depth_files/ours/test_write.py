"""Writing depth files: round trips, streams, 16 bits, any layout of the array, calls that cannot work."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from depth_maps import (
    KINDS,
    META,
    PROVENANCE,
    SIZES,
    clean,
    encoded,
    same,
    scene,
    skip_without_codec,
    steps,
)
from PIL import Image

import prv2cli
from prv2cli.depth_files.ours.encode import depth_format
from prv2cli.depth_files.ours.encoding import Encoding
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import UsageError


@pytest.mark.parametrize(("fmt", "dtype"), KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_round_trip(folder: Path, fmt: str, dtype: Any, size: tuple[int, int]) -> None:
    skip_without_codec(fmt)
    depth = scene(*size)
    path = folder / f"a.{fmt}"
    report = write_depth(path, depth, META, dtype=dtype)
    assert (report.path, report.bytes) == (path, path.stat().st_size)
    assert report.clipped == 0
    assert report.invalid == np.count_nonzero(np.isnan(clean(depth)))
    found = read_depth(path)
    assert found.values.dtype == np.float32
    integers = dtype == "uint16"
    if integers:
        assert same(found.values, clean(steps(depth, 256) / np.float64(256)))
        assert np.nanmax(np.abs(found.values - clean(depth))) <= 0.5 / 256 + 1e-5
    else:
        assert same(found.values, clean(depth))
    assert found.metadata.scale == (256 if integers else 1)
    assert np.isnan(found.metadata.invalid) != integers
    assert (found.metadata.unit, found.metadata.kind) == ("metre", "depth")
    assert all(getattr(found.metadata, key) == getattr(META, key) for key in PROVENANCE)
    assert (found.metadata.software, found.metadata.version) == ("prv2cli", prv2cli.__version__)


@pytest.mark.parametrize(("fmt", "dtype"), KINDS)
def test_stream_gets_the_bytes_of_the_file(folder: Path, fmt: str, dtype: Any) -> None:
    skip_without_codec(fmt)
    path = folder / f"a.{fmt}"
    report = write_depth(path, scene(), META, dtype=dtype)
    read, write = os.pipe()  # cannot seek
    with os.fdopen(read, "rb") as reader:
        with os.fdopen(write, "wb", buffering=0) as pipe:
            streamed = write_depth(pipe, scene(), META, fmt=fmt, dtype=dtype)
        data = reader.read()
    assert (streamed.path, streamed.bytes) == (None, report.bytes)
    if fmt != "exr":
        assert data == path.read_bytes()
    assert same(read_depth(io.BytesIO(data)).values, read_depth(path).values)


@pytest.mark.parametrize("scale", [256.0, 1000.0, 5000.0, 0.37, 7e4])
def test_sixteen_bits(scale: float) -> None:
    rng = np.random.default_rng(1)
    depth = rng.uniform(0, 1.3 * 65535 / scale, (50, 70)).astype(np.float32)
    depth[0, :4] = [1e-6 / scale, 0.4 / scale, 65535 / scale, 3e38]
    buffer = io.BytesIO()
    report = write_depth(buffer, depth, META, fmt="png", scale=scale)
    stored = np.asarray(Image.open(buffer))
    assert np.array_equal(stored, steps(depth, scale))
    assert (stored[0, 0], stored[0, 1], stored[0, 3]) == (1, 1, 65535)  # a valid depth is never 0
    assert report.clipped == np.count_nonzero(np.rint(depth.astype(np.float64) * scale) > 65535) > 300
    assert report.invalid == 0
    assert read_depth(io.BytesIO(buffer.getvalue())).metadata.clipped == report.clipped


def test_number_of_coarsely_rounded_pixels() -> None:
    depth = np.array([[0.1, 0.2, 1.0, np.nan]], np.float32)
    assert write_depth(io.BytesIO(), depth, META).rounded == 1  # 0.1 m is 26 steps, 0.2 m is 51
    assert write_depth(io.BytesIO(), depth, META, scale=5000).rounded == 0


@pytest.mark.parametrize("layout", ["F", "strided", "float64", "float16", ">f4"])
def test_any_layout_of_the_array(layout: str) -> None:
    depth = np.round(scene(), 2)
    other = {
        "F": np.asfortranarray(depth),
        "strided": np.repeat(depth, 2, axis=1)[:, ::2],
        "float64": depth.astype(np.float64),
        "float16": depth.astype(np.float16),
        ">f4": depth.astype(">f4"),
    }[layout]
    for fmt, dtype in (("png", "uint16"), ("tif", "uint16"), ("tif", "float32"), ("npy", "float32")):
        assert encoded(fmt, dtype, other) == encoded(fmt, dtype, other.astype(np.float32).copy())


def test_inverse_is_one_over_x() -> None:
    depth = scene()
    found = read_depth(io.BytesIO(encoded("npy", inverse=True)))
    assert (found.metadata.unit, found.metadata.kind) == ("1/metre", "inverse")
    assert same(found.values, (1 / clean(depth).astype(np.float64)).astype(np.float32))
    disparity = replace(META, unit="1/relative", kind="inverse")
    buffer = io.BytesIO()
    write_depth(buffer, depth, disparity, fmt="npy", inverse=True)  # kept: it is inverse already
    found = read_depth(io.BytesIO(buffer.getvalue()))
    assert (found.metadata.unit, same(found.values, clean(depth))) == ("1/relative", True)
    buffer = io.BytesIO()
    write_depth(buffer, depth, disparity, fmt="npy")
    assert read_depth(io.BytesIO(buffer.getvalue())).metadata.unit == "relative"


@pytest.mark.parametrize(("fmt", "dtype"), KINDS)
def test_writing_is_ended_from_within(folder: Path, fmt: str, dtype: Any) -> None:
    skip_without_codec(fmt)
    bands = 0

    def enough() -> None:
        nonlocal bands
        bands += 1
        if bands == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_depth(folder / f"a.{fmt}", scene(700, 211), META, dtype=dtype, on_band=enough)
    assert not list(folder.iterdir())


def test_wrong_calls() -> None:
    with pytest.raises(UsageError, match=r"a\.bmp.*\.png, \.tif, \.tiff, \.npy, \.npz, \.exr"):
        depth_format(Path("a.bmp"))
    with pytest.raises(UsageError, match=r"without extension.*--format"):
        depth_format(Path("depth"))
    with pytest.raises(UsageError, match="--format bmp"):
        depth_format(Path("a.png"), "bmp")
    assert depth_format(Path("a.TIFF")) == depth_format(Path("a.png"), "tif") == "tiff"
    assert depth_format(Path("-")) == "png"
    with pytest.raises(UsageError, match="--dtype float32: a PNG"):
        encoded("png", "float32")
    with pytest.raises(UsageError, match="--depth-scale 0"):
        encoded("png", scale=0)
    for depth in (np.ones(3), np.ones((0, 3)), np.ones((1, 2, 3)), np.ones((2, 2), bool)):
        with pytest.raises(UsageError, match="2-D array"):
            encoded("png", depth=depth)


@pytest.mark.parametrize(
    ("unit", "dtype"),
    [("metre", "uint16"), ("1/metre", "uint16"), ("relative", "float32"), ("1/relative", "float32")],
)
def test_a_tiff_without_a_unit_holds_floats(unit: str, dtype: str) -> None:
    assert Encoding("tiff").stored_as(unit) == dtype
    assert Encoding("tiff", "uint16").stored_as(unit) == "uint16"
