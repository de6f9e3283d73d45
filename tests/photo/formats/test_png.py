"""PNG: the colours that its chunks state, and what of a damaged one can be read."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import RGB8, RGB16, chunk, png16, saved

from prv2cli.errors import InputError
from prv2cli.photo.colour.coded import HDR_NOTE, SRGB, icc_profile
from prv2cli.photo.read import read_photo

CORNERS = (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)  # Display P3


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def corners(*values: float) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in values)))


def linear(srgb: np.ndarray) -> np.ndarray:
    value = srgb / 65535
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.rint(light * 65535).astype(np.uint16)


def read(pixels: np.ndarray, *extra: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    photo = read_photo(png16(pixels, extra=b"".join(extra)))
    return photo.rgb.astype(int), photo.notes


@pytest.mark.parametrize("channels", [1, 3])
def test_linear_light_becomes_srgb(channels: int) -> None:
    pixels = np.maximum(RGB16[..., :channels], 4000)  # near black 16 bits of linear light are few
    found, notes = read(linear(pixels), gamma(1.0))
    assert np.abs(found - pixels).max() < 40
    assert "linear light" in notes[0]


def test_linear_light_of_8_bits_becomes_srgb() -> None:
    file = saved(RGB8, "PNG").getvalue()
    at = 8 + 25
    photo = read_photo(io.BytesIO(file[:at] + gamma(1.0) + file[at:]))
    assert photo.rgb.mean() > RGB8.mean() + 20
    assert "linear light" in photo.notes[0]


@pytest.mark.parametrize(
    "extra",
    [
        (gamma(0.45455),),
        (gamma(0.45455), corners(*SRGB)),
        (gamma(1.0), chunk(b"sRGB", b"\0")),
        (chunk(b"cICP", bytes((1, 13, 0, 1))), gamma(1.0)),
        (corners(*SRGB),),
        (gamma(0.0),),
        (gamma(20000.0),),
    ],
    ids=[
        "srgb gamma",
        "and primaries",
        "sRGB chunk",
        "cICP of sRGB",
        "primaries",
        "no gamma",
        "absurd gamma",
    ],
)
def test_what_means_srgb_changes_nothing(extra: tuple[bytes, ...]) -> None:
    found, notes = read(RGB16, *extra)
    np.testing.assert_array_equal(found, RGB16)
    assert notes == ()


def test_primaries_by_chunk_by_code_and_by_profile_are_the_same() -> None:
    by_chunk, notes = read(RGB16, corners(*CORNERS))
    by_code, _ = read(RGB16, chunk(b"cICP", bytes((12, 13, 0, 1))))
    assert np.abs(by_chunk - by_code).max() <= 2
    assert notes
    assert np.abs(by_chunk - RGB16).max() > 1000


def test_a_code_comes_before_a_profile_and_a_profile_before_gamma() -> None:
    profile = icc_profile(SRGB, (1.8,), "gamma 1.8")
    embedded = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    by_profile, notes = read(RGB16, embedded, gamma(1.0))
    assert "gamma 1.8" in notes[0]
    by_gamma, _ = read(RGB16, gamma(1 / 1.8))
    assert np.abs(by_profile - by_gamma).max() <= 3
    found, notes = read(RGB16, chunk(b"cICP", bytes((1, 13, 0, 1))), embedded)
    np.testing.assert_array_equal(found, RGB16)
    assert notes == ()


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_told(transfer: int) -> None:
    assert read(RGB16, chunk(b"cICP", bytes((9, transfer, 0, 1))))[1] == (HDR_NOTE,)


@pytest.mark.parametrize("values", [(0.0,) * 8, (0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3), (1.0, 0.0) * 4])
def test_impossible_primaries_are_told(values: tuple[float, ...]) -> None:
    found, notes = read(RGB16, corners(*values))
    np.testing.assert_array_equal(found, RGB16)
    assert "ignored" in notes[0]


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_missing_end(interlaced: bool) -> None:
    data = png16(RGB16, interlaced=interlaced).getvalue()
    for cut in (1, 4, 8, 12, 14):
        photo = read_photo(io.BytesIO(data[:-cut]))
        np.testing.assert_array_equal(photo.rgb, RGB16)
        assert photo.notes == ("its end is missing: every row is there and was read",)
    for cut in (200, len(data) // 2):
        with pytest.raises(InputError, match="damaged or cut short"):
            read_photo(io.BytesIO(data[:-cut]))


def test_checksums_matter_where_pixels_depend_on_them() -> None:
    for name, notes in (
        (b"tEXt", ("damaged tEXt chunk left out",)),
        (b"gAMA", ("damaged gAMA chunk left out",)),
    ):
        broken = chunk(name, b"\0\1\x86\xa0")[:-1] + b"\0"
        photo = read_photo(png16(RGB16, extra=broken))
        np.testing.assert_array_equal(photo.rgb, RGB16)
        assert photo.notes == notes
    data = png16(RGB16).getvalue()
    with pytest.raises(InputError, match="checksum error in its IDAT chunk"):
        read_photo(io.BytesIO(data[:-17] + bytes([data[-17] ^ 1]) + data[-16:]))
