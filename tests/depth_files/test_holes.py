"""Which numbers are no depth: the file's own word, and what renderers and sensors write where nothing is."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from image_files import ORIENTED, chunk, png16
from packed_tiffs import packed

from prv2cli.depth_files.holes import find_stray
from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth

DEPTH = np.random.default_rng(1).uniform(1, 9, (24, 32)).astype(np.float32)
MM = np.rint(DEPTH * 1000).astype(np.uint16)


def npy(values: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, values)
    return io.BytesIO(file.getvalue())


def tiff(values: np.ndarray, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, **options)
    return io.BytesIO(file.getvalue())


def nodata(values: np.ndarray, text: str, **options: Any) -> io.BytesIO:
    return tiff(values, extratags=[(42113, 2, len(text) + 1, text, True)], **options)


def background(value: float, dtype: str = "f4") -> np.ndarray:
    values = (DEPTH if dtype[0] == "f" else MM).astype(dtype)
    values[:, :8] = value
    return values


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("u2", "65535"),
        ("u2", "7"),
        ("i4", "-2147483648"),
        ("i4", "2147483647"),
        ("f4", "-9999"),
        ("f4", "3.4028234663852886e+38"),
        ("f4", "3.40282346638529e+38"),
        ("f4", "3.4028e+38"),
        ("f4", "0.1"),
        ("f8", "12345.678"),
    ],
)
@pytest.mark.parametrize("byteorder", "<>")
def test_the_no_data_value_of_gdal(dtype: str, text: str, byteorder: str) -> None:
    values = background(float(text), dtype)
    found = read_depth(nodata(values, text, byteorder=byteorder), scale=1)
    assert np.isnan(found.values[:, :8]).all()
    np.testing.assert_array_equal(found.values[:, 8:], values[:, 8:].astype("f4"))
    assert "192 pixels" in " ".join(found.notes)


@pytest.mark.parametrize("text", ["nan", "none", "", "1e999", "0.5"])
def test_a_no_data_value_that_no_pixel_has(text: str) -> None:
    np.testing.assert_array_equal(read_depth(nodata(MM, text), scale=1).values, MM)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [("f4", "inf"), ("f8", "-inf"), ("f4", "1e999"), ("f4", "-1.7976931348623157e+308"), ("f2", "-3.4e+38")],
)
def test_a_no_data_value_beyond_the_numbers_is_that_of_no_pixel(dtype: str, text: str) -> None:
    values = DEPTH.astype(dtype)
    np.testing.assert_array_equal(read_depth(nodata(values, text), scale=1).values, values.astype("f4"))


def test_mask_pages_and_reduced_copies() -> None:
    seen = np.ones(DEPTH.shape, bool)
    seen[:, :8] = False
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(DEPTH[::2, ::2], subfiletype=1, metadata=None)
        writer.write(DEPTH, metadata=None)
        writer.write(seen, subfiletype=4, metadata=None)
        writer.write(seen[::2, ::2], subfiletype=5, metadata=None)
    found = read_depth(io.BytesIO(file.getvalue()), scale=1)
    assert np.isnan(found.values[:, :8]).all()
    np.testing.assert_array_equal(found.values[:, 8:], DEPTH[:, 8:])


def test_the_full_map_in_a_sub_directory() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(DEPTH[::2, ::2], subfiletype=1, subifds=1, metadata=None)
        writer.write(DEPTH, metadata=None)
    np.testing.assert_array_equal(read_depth(io.BytesIO(file.getvalue()), scale=1).values, DEPTH)


@pytest.mark.parametrize("code", [1, 5, 8, 32773])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_alike_for_every_compression(orientation: int, code: int) -> None:
    stored = np.ascontiguousarray(ORIENTED[orientation](MM))
    file = packed(stored, "<", code, 1, orientation=orientation)
    np.testing.assert_array_equal(read_depth(file, scale=1).values, MM)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_no_data_is_turned_with_the_map(orientation: int) -> None:
    values = background(65535, "u2")
    stored = np.ascontiguousarray(ORIENTED[orientation](values))
    text = "65535"
    tags = [(42113, 2, len(text) + 1, text, True), (274, 3, 1, orientation, True)]
    found = read_depth(tiff(stored, extratags=tags), scale=1).values
    np.testing.assert_array_equal(np.isnan(found), values == 65535)


def gdal(values: np.ndarray, items: str, **options: Any) -> io.BytesIO:
    text = f"<GDALMetadata>{items}</GDALMetadata>"
    tags = [(42112, 2, len(text) + 1, text, True), (42113, 2, 3, "-1", True)]
    return tiff(values, extratags=tags, **options)


SCALE = '<Item name="SCALE" sample="0" role="scale">0.001</Item>'
OFFSET = '<Item name="OFFSET" sample="0" role="offset">2</Item>'


@pytest.mark.parametrize(
    ("items", "scale", "offset"), [(SCALE + OFFSET, 0.001, 2), (SCALE, 0.001, 0), (OFFSET, 1, 2)]
)
def test_gdals_scale_and_offset(items: str, scale: float, offset: float) -> None:
    values = MM.astype(np.int32)
    values[3, 5:9] = -1
    found = read_depth(gdal(values, items), scale=1)
    np.testing.assert_array_equal(np.isnan(found.values), values == -1)  # of the stored numbers
    there = values != -1
    np.testing.assert_allclose(found.values[there], values[there] * scale + offset, rtol=1e-6)
    assert any(f"times {scale:g} plus {offset:g}" in note for note in found.notes)


@pytest.mark.parametrize(
    "items",
    [
        "",
        '<Item name="SCALE" sample="1" role="scale">0.001</Item>',
        '<Item name="SCALE" sample="0" role="scale">much</Item>',
        '<Item name="SCALE" sample="0" role="scale">0</Item>',
        '<Item name="SCALE" sample="0" role="scale">nan</Item>',
        '<Item name="SCALE" sample="0" role="scale"/>',
        '<Item name="scale">0.001</Item>',
        "<Item",
    ],
)
def test_other_metadata_of_gdal_changes_nothing(items: str) -> None:
    found = read_depth(gdal(MM, items), scale=1000)
    np.testing.assert_array_equal(found.values, (MM / 1000.0).astype(np.float32))
    assert not any("times" in note for note in found.notes)


def test_clear_pixels_of_png() -> None:
    values = background(7, "u2")
    found = read_depth(png16(values[..., None], extra=chunk(b"tRNS", b"\0\7")), scale=1)
    np.testing.assert_array_equal(np.isnan(found.values), values == 7)
    opaque = np.where(values == 7, 0, 65535).astype(np.uint16)
    found = read_depth(png16(np.dstack([values, opaque])), scale=1)
    np.testing.assert_array_equal(np.isnan(found.values), values == 7)
    np.testing.assert_array_equal(found.values[:, 8:], values[:, 8:])


@pytest.mark.parametrize("value", [1e10, 1e9, 65504, 65535, 3.4028235e38, 1e30, 9999, 1e5])
def test_numbers_of_renderers_are_told_and_left_out(value: float) -> None:
    found = read_depth(npy(background(value)), scale=1)
    assert np.isnan(found.values[:, :8]).all()
    np.testing.assert_array_equal(found.values[:, 8:], DEPTH[:, 8:])
    assert "192 pixels" in found.notes[0]
    assert "nothing there" in found.notes[0]
    assert depth_info(npy(background(value)))["invalid"] == 192
    relative = read_depth(npy(background(value)), relative=True)
    assert np.isnan(relative.values[:, :8]).all()


def test_halfway_values_at_the_edge_of_a_background_are_out_too() -> None:
    values = background(1e10)
    values[:, 8] = 2.5e9
    found = read_depth(npy(values), scale=1)
    np.testing.assert_array_equal(np.isnan(found.values), values > 100)
    assert "216 pixels" in found.notes[0]


def test_16_bit_files_with_a_background_of_the_largest_number() -> None:
    found = read_depth(npy(background(65535, "u2")), scale=1000)
    assert np.isnan(found.values[:, :8]).all()
    assert "of 65535" in found.notes[0]
    picture = read_depth(npy(background(65535, "u2")), relative=True, kind="inverse")
    assert not np.isnan(picture.values).any()
    assert picture.notes == ()


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_the_largest_integer_of_64_bits_which_no_float_is(dtype: str) -> None:
    found = read_depth(npy(background(np.iinfo(dtype).max, dtype)), scale=1000)
    assert np.array_equal(np.isnan(found.values), np.arange(32)[None].repeat(24, 0) < 8)
    assert "192 pixels of 9.22" in found.notes[0] or "192 pixels of 1.84" in found.notes[0]


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(1, 65504, 768, dtype="f4").reshape(24, 32),
        np.linspace(1, 65535, 768).astype("u2").reshape(24, 32),
        np.where(np.arange(768).reshape(24, 32) == 5, 65504, DEPTH).astype("f4"),
        np.where(DEPTH > 8, 1000, DEPTH).astype("f4"),
        np.full((24, 32), 65504, "f4"),
    ],
    ids=["up to 65504", "up to 65535", "one pixel", "a far plane", "nothing else"],
)
def test_numbers_that_are_depth_stay(values: np.ndarray) -> None:
    found = read_depth(npy(values), scale=1)
    np.testing.assert_array_equal(found.values, values.astype("f4"))
    assert found.notes == ()


def test_our_own_files_mean_what_they_say() -> None:
    file = io.BytesIO()
    write_depth(file, background(65504), DepthMetadata(), fmt="npy")
    assert np.nanmax(read_depth(io.BytesIO(file.getvalue())).values) == 65504


@pytest.mark.parametrize("value", [1e4, -1e4, 1e7])
def test_a_few_values_far_from_all_others_are_no_depth(value: float) -> None:
    values = np.random.default_rng(0).uniform(0, 255, (100, 120)).astype(np.float32)
    values[5, 7] = value
    found, notes = find_stray(values, None)
    assert found is not None
    assert np.argwhere(found).tolist() == [[5, 7]]
    assert notes[0].startswith("1 pixel more than 10 times the range")


def test_a_near_thing_of_few_pixels_is_depth() -> None:
    values = np.random.default_rng(0).uniform(0, 255, (100, 120)).astype(np.float32)
    values[5:9, 7] = 2000
    assert find_stray(values, None) == (None, ())
    # There is no range to be out of.
    assert find_stray(np.where(values > 1000, values, 1), None) == (None, ())
