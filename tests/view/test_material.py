"""What goes onto a page: upright, reduced without new numbers, in its unit, refused where it does not fit."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import SIZE, depth_values, photograph, write_photo
from PIL import Image

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.errors import InputError, UsageError
from prv2cli.photo.read import Photo, read_photo
from prv2cli.view.maps import read_map
from prv2cli.view.material import PhotoLayer, depth_layers, focal_of, page_size, photo_layer

ALL = 10**9


def _photo(rgb: np.ndarray | None = None, focal: float | None = None) -> Photo:
    return Photo(photograph() if rgb is None else rgb, focal, (), "0" * 64, "somewhere/photo.jpg")


@pytest.fixture
def layer() -> PhotoLayer:
    return photo_layer(_photo(), ALL)


def _pixels(layer: PhotoLayer) -> np.ndarray:
    with Image.open(io.BytesIO(layer.jpeg)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_the_size_of_a_page() -> None:
    assert page_size((5304, 7952), 4_000_000) == (1633, 2448)
    assert page_size((100, 200), 20_000) == (100, 200)
    assert page_size((1, 100_000), 1000) == (1, 10_000), "one pixel at least"
    assert page_size((50, 70_000), 4_000_000) == (11, 16_384), "what a canvas holds"


def test_a_photograph_is_upright_and_has_its_name(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", orientation=6)
    found = photo_layer(read_photo(tmp_path / "a.jpg"), ALL)
    assert (found.name, found.size, found.shown) == ("a.jpg", SIZE, SIZE)
    assert np.abs(_pixels(found) - photograph().astype(int)).mean() < 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_large_photograph_is_averaged(dtype: Any) -> None:
    rgb = np.kron(photograph(40, 60).astype(dtype), np.ones((4, 4, 1), dtype)) * (
        1 if dtype == np.uint8 else 257
    )
    found = photo_layer(_photo(rgb), 40 * 60)
    assert (found.size, found.shown) == ((160, 240), (40, 60))
    assert np.abs(_pixels(found) - photograph(40, 60).astype(int)).mean() < 6


@pytest.mark.parametrize("pixels", [ALL, 9_000, 777])
def test_each_number_of_the_page_is_one_of_the_file(pixels: int, layer: PhotoLayer, tmp_path: Path) -> None:
    depth = depth_values()
    write_depth(tmp_path / "a.npy", depth, DepthMetadata())
    (found,) = depth_layers([tmp_path / "a.npy"], layer, pixels)
    rows, columns = found.shown
    assert rows * columns <= pixels
    y = (2 * np.arange(rows) + 1) * SIZE[0] // (2 * rows)  # as page/data.js has it
    x = (2 * np.arange(columns) + 1) * SIZE[1] // (2 * columns)
    assert np.array_equal(found.values, depth[y[:, None], x], equal_nan=True)
    assert found.missing == np.isnan(depth).sum(), "of the file, not of the page"


def test_another_aspect_is_refused_with_both_sizes(layer: PhotoLayer, tmp_path: Path) -> None:
    np.save(tmp_path / "turned.npy", np.ones((240, 160), np.float32))
    with pytest.raises(
        InputError, match=r"turned\.npy is 160x240, the photograph photo\.jpg 240x160: .*upright"
    ):
        depth_layers([tmp_path / "turned.npy"], layer, ALL, scale=1)
    np.save(tmp_path / "tiny.npy", np.ones((5, 7), np.float32))
    assert depth_layers([tmp_path / "tiny.npy"], layer, ALL, scale=1)[0].size == (5, 7), (
        "rounding is no mismatch"
    )


def test_what_a_file_says_wins_over_the_flags(layer: PhotoLayer, tmp_path: Path) -> None:
    write_depth(tmp_path / "ours.png", depth_values(), DepthMetadata(), scale=256)
    Image.fromarray(np.full(SIZE, 3000, np.uint16)).save(tmp_path / "millimetres.png")
    files = [tmp_path / "ours.png", tmp_path / "millimetres.png"]
    ours, others = depth_layers(files, layer, ALL, scale=1000)
    assert (ours.metadata.scale, others.metadata.scale) == (256, 1000)
    assert others.values[0, 0] == 3
    relative = depth_layers(files, layer, ALL, relative=True, kind="inverse")
    assert [found.metadata.unit for found in relative] == ["metre", "1/relative"]
    with pytest.raises(
        UsageError, match=r"millimetres\.png does not say its unit.*--scale 1000 .*or --relative"
    ):
        depth_layers(files, layer, ALL)


def test_maps_of_metres_share_their_colours(layer: PhotoLayer, tmp_path: Path) -> None:
    depth = depth_values()
    write_depth(tmp_path / "near.npy", depth, DepthMetadata())
    write_depth(tmp_path / "far.npy", depth * 3, DepthMetadata(), inverse=True)
    np.save(tmp_path / "other.npy", depth)
    files = [tmp_path / name for name in ("near.npy", "far.npy", "other.npy")]
    near, far, other = depth_layers(files, layer, ALL, relative=True)
    assert near.span == far.span
    assert near.span.near == pytest.approx(np.nanpercentile(1 / depth, 98), rel=1e-3)
    assert near.span.far == pytest.approx(np.nanpercentile(1 / (3 * depth), 2), rel=1e-3)
    assert other.span.far == pytest.approx(np.nanpercentile(1 / depth, 2), rel=1e-3)


def test_0_is_a_number_where_there_is_no_unit(layer: PhotoLayer, tmp_path: Path) -> None:
    """The farthest of an inverse map: what networks write behind everything. In metres it is no depth."""
    levels = np.full(SIZE, 90, np.uint8)
    levels[0, :4] = [0, 1, 2, 255]
    Image.fromarray(levels).save(tmp_path / "grey.png")
    (relative,) = depth_layers([tmp_path / "grey.png"], layer, ALL, relative=True, kind="inverse")
    assert relative.values[0, :4].tolist() == [0, 1, 2, 255]
    assert any("8-bit" in note for note in relative.notes)
    (metric,) = depth_layers([tmp_path / "grey.png"], layer, ALL, scale=10, kind="depth")
    assert np.array_equal(
        metric.values[0, :4], np.array([np.nan, 0.1, 0.2, 25.5], np.float32), equal_nan=True
    )
    with pytest.raises(UsageError, match=r"grey\.png is an 8-bit picture.*--kind inverse"):
        depth_layers([tmp_path / "grey.png"], layer, ALL, relative=True)
    np.save(tmp_path / "nan.npy", np.full(SIZE, np.nan))
    with pytest.raises(InputError, match=r"nan\.npy: no pixel holds a number"):
        depth_layers([tmp_path / "nan.npy"], layer, ALL, relative=True)


def test_clear_pixels_of_a_picture_are_no_depth(tmp_path: Path) -> None:
    """As `prv2 refine` takes them; what lies under them is no number."""
    levels = np.full((8, 12), 90, np.uint8)
    alpha = np.full((8, 12), 255, np.uint8)
    alpha[2:4, 3] = 0
    Image.merge("LA", [Image.fromarray(levels), Image.fromarray(alpha)]).save(tmp_path / "a.png")
    _, found = read_map(tmp_path / "a.png", kind="depth", relative=True)
    np.testing.assert_array_equal(np.isnan(found.values), alpha == 0)
    assert any("2 pixels marked as no data" in note for note in found.notes)


def test_a_stream_is_read_once(layer: PhotoLayer, tmp_path: Path) -> None:
    write_depth(tmp_path / "a.tif", depth_values(), DepthMetadata())
    (found,) = depth_layers([io.BytesIO((tmp_path / "a.tif").read_bytes())], layer, ALL)
    assert (found.name, found.shown) == ("<stdin>", SIZE)


@pytest.mark.parametrize(
    ("about", "exif", "focal", "origin"),
    [
        (DepthMetadata(focal_px=300, focal_origin="given"), 500.0, 1.25, "given"),
        (DepthMetadata(focal_px=300), None, 1.25, "the depth file"),
        (DepthMetadata(fov_degrees=90), 500.0, 0.5, "the depth file"),
        (DepthMetadata(), 480.0, 2.0, "exif"),
        (DepthMetadata(), None, None, None),
    ],
)
def test_the_focal_length_in_widths(
    about: DepthMetadata, exif: float | None, focal: float | None, origin: str | None, tmp_path: Path
) -> None:
    photo = photo_layer(_photo(focal=exif), ALL)
    write_depth(tmp_path / "a.npy", depth_values(), about)
    (layer,) = depth_layers([tmp_path / "a.npy"], photo, ALL)
    found, source = focal_of(layer, photo)
    assert source == origin
    assert (found is None) == (focal is None)
    assert found is None or math.isclose(found, focal or 0)
