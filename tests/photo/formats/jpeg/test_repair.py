"""JPEGs whose rows are all there are read, whatever their end is like; those that lack rows are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import RGB8, saved

from prv2cli.errors import InputError
from prv2cli.photo.formats.jpeg.repair import ENDED, RESTARTS
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import Photo, read_photo

NOISE = np.random.default_rng(0).integers(0, 256, (64, 83, 3), np.uint8)  # the last row is coded in many bits
KINDS = {
    "baseline": {"quality": 95},
    "grey": {"quality": 90},
    "progressive": {"progressive": True, "quality": 90},
    "subsampled": {"subsampling": 2},
    "restarts": {"restart_marker_blocks": 3},
}


def jpeg(kind: str, pixels: np.ndarray = NOISE) -> bytes:
    return saved(pixels[..., 0] if kind == "grey" else pixels, "JPEG", **KINDS[kind]).getvalue()


def read_twice(data: bytes, folder: Path) -> Photo:
    """Whole and in bands, which have to agree."""
    photo = read_photo(io.BytesIO(data))
    with photo_on_disk(io.BytesIO(data), folder) as banded:
        np.testing.assert_array_equal(photo.rgb, np.asarray(banded.rgb[:]))
        assert banded.notes == photo.notes
    return photo


@pytest.mark.parametrize(
    "pixels", [NOISE, RGB8, np.full((40, 40, 3), 128, np.uint8)], ids=["noise", "ramps", "flat"]
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "end",
    [b"", b"\xff", b"\0" * 500, b"\xff\xf0garbage", b"\xff\x00\xff\x01"],
    ids=["cut", "half", "zeros", "junk", "odd"],
)
def test_only_the_end_is_missing(tmp_path: Path, kind: str, end: bytes, pixels: np.ndarray) -> None:
    data = jpeg(kind, pixels)
    photo = read_twice(data[:-2] + end, tmp_path)
    np.testing.assert_array_equal(photo.rgb, read_photo(io.BytesIO(data)).rgb)
    assert photo.notes == (ENDED,)


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_behind_the_end_is_nothing(tmp_path: Path, kind: str) -> None:
    data = jpeg(kind)
    photo = read_twice(data + bytes(1000) + data[:300], tmp_path)
    np.testing.assert_array_equal(photo.rgb, read_photo(io.BytesIO(data)).rgb)
    assert photo.notes == ()


@pytest.mark.parametrize("kind", ["baseline", "subsampled", "restarts"])
def test_missing_rows_filled_with_zeros_are_refused(tmp_path: Path, kind: str) -> None:
    data = jpeg(kind)
    with pytest.raises(InputError, match="damaged or cut short"):
        read_twice(data[: len(data) // 2] + bytes(len(data)), tmp_path)


@pytest.mark.parametrize("ended", [False, True], ids=["cut", "with an end put there"])
@pytest.mark.parametrize("kind", KINDS)
def test_missing_rows_are_refused(tmp_path: Path, kind: str, ended: bool) -> None:
    data = jpeg(kind)
    for length in (len(data) // 2, len(data) * 8 // 10, *(() if ended else (len(data) - 60, len(data) - 4))):
        cut = data[:length].rstrip(b"\xff") + (b"\xff\xd9" if ended else b"")
        if kind == "progressive" and ended:
            continue  # all rows are there, of fewer bits: what its writer said is the end
        with pytest.raises(InputError, match="damaged or cut short"):
            read_twice(cut, tmp_path)


def test_a_progressive_one_without_its_last_scans_is_refused(tmp_path: Path) -> None:
    data = jpeg("progressive")
    with pytest.raises(InputError, match="damaged or cut short"):
        read_twice(data[: data.rindex(b"\xff\xda")], tmp_path)


def test_restart_markers_out_of_order_are_told(tmp_path: Path) -> None:
    data = jpeg("restarts", RGB8)
    at = data.index(b"\xff\xd2")
    assert read_twice(data, tmp_path).notes == ()
    assert read_twice(data[:at] + b"\xff\xd6" + data[at + 2 :], tmp_path).notes == (RESTARTS,)
