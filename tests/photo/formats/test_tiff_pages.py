"""Which page of a TIFF is the photograph, whole and in bands."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from image_files import RGB8, RGB16

from prv2cli.photo.header import read_header
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import read_photo


def pages(*written: tuple[np.ndarray, dict[str, Any]], bigtiff: bool = False, byteorder: Any = "<") -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=bigtiff, byteorder=byteorder) as writer:
        for pixels, options in written:
            writer.write(pixels, photometric="rgb", metadata=None, rowsperstrip=8, **options)
    return file.getvalue()


REDUCED: dict[str, Any] = {"subfiletype": 1}


@pytest.mark.parametrize("pixels", [RGB8, RGB16], ids=["8", "16"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "BigTIFF"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", ["first", "both sides", "above", "pyramid", "sub-pyramid"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_reduced_copies_are_not_the_photograph(
    tmp_path: Path, pixels: np.ndarray, big: bool, order: str, layout: str, compression: str | None
) -> None:
    small, whole = (pixels[::4, ::4], REDUCED), (pixels, {"compression": compression})
    written = {
        "first": (small, whole),
        "both sides": (small, whole, small),
        "above": ((pixels[::4, ::4], REDUCED | {"subifds": 1}), whole),
        "pyramid": (whole, (pixels[::2, ::2], REDUCED), small),
        "sub-pyramid": (
            (pixels, {"subifds": 2, "compression": compression}),
            (pixels[::2, ::2], REDUCED),
            small,
        ),
    }[layout]
    path = tmp_path / "a.tif"
    path.write_bytes(pages(*written, bigtiff=big, byteorder=order))
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.rgb, pixels)
    assert bool(photo.notes) == (layout in ("first", "both sides", "above"))
    with photo_on_disk(path, tmp_path) as banded:
        np.testing.assert_array_equal(np.asarray(banded.rgb[:]), pixels)
        assert banded.notes == photo.notes
    assert (read_header(path).height, read_header(path).width) == pixels.shape[:2]


def test_a_lone_page_is_read_whatever_it_calls_itself() -> None:
    np.testing.assert_array_equal(read_photo(io.BytesIO(pages((RGB8, REDUCED)))).rgb, RGB8)


def test_a_larger_page_behind_the_first_is_told() -> None:
    (note,) = read_photo(io.BytesIO(pages((RGB8[::2, ::2], {}), (RGB8, {})))).notes
    assert note == "2 pages: only the first is read (27 x 19; another is 53 x 37)"
