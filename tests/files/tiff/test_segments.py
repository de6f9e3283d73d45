"""Every decoder of TIFF gives the numbers that were stored: ours by libtiff, tifffile, and both whole and in bands."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from packed_tiffs import PACK, packed

from prv2cli.depth_files.read import read_depth
from prv2cli.files.tiff.segments import read_segments, readable, unpacks
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import read_photo

ROWS, COLUMNS = 18, 21
NUMBERS = np.random.default_rng(3).integers(1, 60000, (ROWS, COLUMNS, 3))
PACKED = [pytest.param(code, id=str(code)) for code in PACK]


BOTH = ((False, True), (False, True))


def predictors(code: int, kind: str) -> tuple[int, ...]:
    if code in (1, 32773):  # have none
        return (1,)
    return (1, 2, 3) if kind[0] == "f" else (1, 2)


def skip_without(code: int) -> None:
    if not unpacks(code):
        pytest.skip("Pillow's libtiff is built without this compression")


def as_type(kind: str) -> np.ndarray:
    return (NUMBERS % 120 + 1 if kind in ("u1", "i1") else NUMBERS % 30000 + 1).astype(kind)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("code", PACKED)
def test_all_layouts_give_what_was_stored(code: int, kind: str) -> None:
    skip_without(code)
    pixels = as_type(kind)
    for order, predictor, planar, tile in itertools.product("<>", predictors(code, kind), *BOTH):
        file = packed(pixels, order, code, predictor, planar=planar, tile=tile)
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            assert readable(page)
            ours = read_segments(file, page)
            expected = np.moveaxis(pixels, 2, 0)[:, None, ..., None] if planar else pixels[None, None]
            np.testing.assert_array_equal(ours, expected, f"{order} {predictor} {planar} {tile}")
            if code in (1, 8, 34925) and predictor == 1:  # the ones of tifffile alone
                np.testing.assert_array_equal(ours, page.asarray(squeeze=False))


@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("code", PACKED)
def test_depth_of_every_layout(code: int, kind: str) -> None:
    skip_without(code)
    pixels = as_type(kind)[..., 0]
    for order, predictor, tile in itertools.product("<>", predictors(code, kind), BOTH[0]):
        found = read_depth(packed(pixels, order, code, predictor, tile=tile), scale=1)
        np.testing.assert_array_equal(found.values, pixels.astype("f4"), f"{order} {predictor} {tile}")


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("code", PACKED)
def test_photographs_of_every_layout_whole_and_in_bands(tmp_path: Path, code: int, kind: str) -> None:
    skip_without(code)
    pixels = (NUMBERS / 65535).astype("f4") if kind == "f4" else as_type(kind)
    expected = np.rint(pixels * 65535).astype("u2") if kind == "f4" else pixels
    for order, predictor, planar, tile in itertools.product("<>", predictors(code, kind), *BOTH):
        file = packed(pixels, order, code, predictor, planar=planar, tile=tile)
        found = read_photo(file).rgb
        np.testing.assert_array_equal(found, expected, f"{order} {predictor} {planar} {tile}")
        file.seek(0)
        with photo_on_disk(file, tmp_path) as banded:
            np.testing.assert_array_equal(np.asarray(banded.rgb[:]), expected)
