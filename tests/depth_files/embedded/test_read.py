"""Depth inside photographs: every kind of file, its formulas, units and turns; damaged and hostile ones."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import phone_photos as phone
import pytest
from PIL import Image

from prv2cli.depth_files.embedded.levels import EmbeddedDepth, Levels, ranged
from prv2cli.depth_files.embedded.read import read_embedded
from prv2cli.depth_files.embedded.xmp import parse_packet
from prv2cli.errors import InputError
from prv2cli.files.pictures.orientation import turn
from prv2cli.photo.read import read_photo

LEVELS, DEEP = phone.levels(), phone.levels(16)
SHARE = LEVELS / np.float64(255)
INVERSE: dict[str, Any] = {"Format": "RangeInverse", "Near": "0.5", "Far": "8"}
LINEAR: dict[str, Any] = {"Format": "RangeLinear", "Near": "0.5", "Far": "8"}


def _read(data: bytes) -> EmbeddedDepth:
    return read_embedded(io.BytesIO(data), "p.jpg")


def _depth(found: EmbeddedDepth) -> np.ndarray:
    return 1 / found.values if found.kind == "inverse" else found.values


@pytest.mark.parametrize("as_elements", [False, True])
def test_gdepth_by_its_formulas(as_elements: bool) -> None:
    picture = phone.encoded(LEVELS)
    found = _read(phone.gdepth(picture, Units="m", as_elements=as_elements, **INVERSE))
    assert (found.kind, found.unit, found.origin, found.notes) == ("inverse", "metre", "GDepth", ())
    assert found.no_unit == ""
    np.testing.assert_allclose(_depth(found), 8 * 0.5 / (8 - SHARE * 7.5), rtol=1e-5)
    found = _read(phone.gdepth(picture, Units="m", as_elements=as_elements, **LINEAR))
    assert (found.kind, found.unit) == ("depth", "metre")
    np.testing.assert_allclose(found.values, SHARE * 7.5 + 0.5, rtol=1e-5)
    assert found.half_step == pytest.approx(7.5 / 255 / 2)


def test_gdepth_of_16_bits_jpeg_and_extended_xmp() -> None:
    deep = _read(phone.gdepth(phone.encoded(DEEP), Units="m", **LINEAR))
    np.testing.assert_allclose(deep.values, DEEP / np.float64(65535) * 7.5 + 0.5, rtol=1e-5)
    assert deep.half_step < 1e-4
    coarse = _read(
        phone.gdepth(phone.encoded(LEVELS, "JPEG", quality=95), Mime="image/jpeg", Units="m", **LINEAR)
    )
    assert np.abs(coarse.values - (SHARE * 7.5 + 0.5)).mean() < 0.1
    extended = _read(phone.gdepth(phone.encoded(DEEP), extended=True, Units="m", **LINEAR))
    assert np.array_equal(extended.values, deep.values)


def test_gdepth_units() -> None:
    picture = phone.encoded(LEVELS)
    millimetres = _read(phone.gdepth(picture, Units="mm", Format="RangeLinear", Near="500", Far="8000"))
    np.testing.assert_allclose(millimetres.values, SHARE * 7.5 + 0.5, rtol=1e-5)
    nothing = _read(phone.gdepth(picture, **INVERSE))
    assert (nothing.unit, nothing.kind) == ("relative", "inverse")
    assert "--coarse-scale 1" in nothing.no_unit
    far_away = _read(phone.gdepth(picture, Units="m", Format="RangeInverse", Near="0.5", Far="inf"))
    assert (float(far_away.values.max()), float(far_away.values.min())) == (2.0, 0.0)
    rays = _read(phone.gdepth(picture, Units="m", MeasureType="OpticRay", **LINEAR))
    assert "along the rays" in rays.notes[0]


@pytest.mark.parametrize(
    "ends", [("0", "8"), ("2", "2"), ("x", "8"), ("nan", "8"), ("-1", "8"), ("1e-320", "8")]
)
def test_near_and_far_that_cannot_be(ends: tuple[str, str]) -> None:
    found = _read(
        phone.gdepth(phone.encoded(LEVELS), Units="m", Format="RangeInverse", Near=ends[0], Far=ends[1])
    )
    assert (found.unit, found.kind) == ("relative", "inverse")
    np.testing.assert_allclose(found.values, 1 - SHARE, atol=1e-6)
    assert "no usable near and far" in found.no_unit


def test_another_format_is_refused() -> None:
    with pytest.raises(InputError, match=r"^p.jpg: its depth is stored as 'Range\?'"):
        _read(phone.gdepth(phone.encoded(LEVELS), Format="Range?", Near="1", Far="2"))


@pytest.mark.parametrize("options", [{}, {"padding": 7}, {"before": phone.encoded(LEVELS[::-1])}])
def test_dynamic_depth(options: dict[str, Any]) -> None:
    found = _read(phone.dynamic_depth(phone.encoded(LEVELS), Units="Meters", **INVERSE, **options))
    assert (found.kind, found.unit, found.origin) == ("inverse", "metre", "Dynamic Depth")
    np.testing.assert_allclose(_depth(found), 8 * 0.5 / (8 - SHARE * 7.5), rtol=1e-5)


def test_dynamic_depth_is_counted_from_the_photograph_not_from_the_end() -> None:
    data = phone.dynamic_depth(
        phone.encoded(DEEP), trailer=b"what another program appended", Units="Meters", **LINEAR
    )
    np.testing.assert_allclose(_read(data).values, DEEP / np.float64(65535) * 7.5 + 0.5, rtol=1e-5)


def test_dynamic_depth_in_dioptres() -> None:
    picture = phone.encoded(LEVELS)
    found = _read(phone.dynamic_depth(picture, Units="Diopters", Format="RangeLinear", Near="4", Far="0.25"))
    assert (found.kind, found.unit) == ("inverse", "metre")
    np.testing.assert_allclose(found.values, 4 - SHARE * 3.75, rtol=1e-5)
    found = _read(phone.dynamic_depth(picture, Units="Diopters", Format="RangeInverse", Near="4", Far="0.25"))
    assert found.kind == "depth"
    np.testing.assert_allclose(found.values, 0.25 + SHARE * 3.75, rtol=1e-5)


def test_dynamic_depth_without_a_unit_is_relative() -> None:
    assert _read(phone.dynamic_depth(phone.encoded(LEVELS), Units="None", **LINEAR)).unit == "relative"


@pytest.mark.parametrize("length", [0, 5, 10**9, 10**15])
def test_a_list_of_items_that_lies(length: int) -> None:
    with pytest.raises(InputError, match=r"^p.jpg: its depth map is not where its list of items says"):
        _read(phone.dynamic_depth(phone.encoded(LEVELS), length=length, Units="Meters", **LINEAR))


def test_apple_jpeg() -> None:
    found = _read(phone.apple_jpeg(LEVELS, **phone.APPLE, Accuracy="absolute"))
    assert (found.kind, found.unit, found.origin) == ("inverse", "metre", "Apple disparity in JPEG")
    assert np.abs(found.values - (0.5 + 4 * SHARE)).mean() < 0.05
    found = _read(phone.apple_jpeg(LEVELS, **phone.APPLE, Accuracy="relative", Filtered="False"))
    assert found.unit == "relative"
    assert "accuracy relative" in found.no_unit
    assert "--coarse-invalid zero" in found.notes[0]


def test_a_matte_is_no_depth() -> None:
    with pytest.raises(InputError, match="holds no depth"):
        _read(phone.apple_jpeg(LEVELS, **phone.APPLE, AuxiliaryImageSubType="portraiteffectsmatte"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("make", [phone.gdepth, phone.dynamic_depth, phone.apple_jpeg, phone.heic])
def test_depth_is_turned_as_the_photograph(make: Callable[..., bytes], orientation: int) -> None:
    if make in (phone.apple_jpeg, phone.heic):
        if make is phone.heic:
            pytest.importorskip("pillow_heif")
        found = _read(make(LEVELS, orientation=orientation, **phone.APPLE))
    else:
        found = _read(make(phone.encoded(LEVELS), orientation=orientation, **LINEAR))
    expected = turn(LEVELS, orientation)
    assert found.levels.shape == found.values.shape == expected.shape
    assert np.abs(found.levels.astype(int) - expected).mean() < 2


def test_depth_is_turned_where_only_xmp_states_the_orientation() -> None:
    data = base64.b64encode(phone.encoded(LEVELS)).decode()
    about = (
        'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" '
        'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" '
        f'GDepth:Format="RangeLinear" GDepth:Near="0.5" GDepth:Far="8" GDepth:Data="{data}"'
    )
    plain = phone.encoded(np.zeros((phone.HEIGHT, phone.WIDTH, 3), np.uint8), "JPEG")
    both = phone.with_segments(plain, *phone.xmp_segments(phone.packet("", about)))
    assert read_photo(io.BytesIO(both)).rgb.shape[:2] == (phone.WIDTH, phone.HEIGHT)
    assert np.array_equal(_read(both).levels, turn(LEVELS, 6))


def test_a_depth_picture_that_states_its_own_orientation_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = phone.encoded(LEVELS, "JPEG", quality=95, exif=exif.tobytes())
    found = _read(phone.dynamic_depth(picture, orientation=6, **LINEAR))
    assert found.levels.shape == (32, 24)
    assert np.abs(found.levels.astype(int) - turn(LEVELS, 6)).mean() < 2


def test_what_is_transparent_has_no_depth() -> None:
    both = np.stack([LEVELS, np.where(LEVELS < 9, 0, 255).astype(np.uint8)], axis=-1)
    found = _read(phone.gdepth(phone.encoded(both), Units="m", **LINEAR))
    assert np.array_equal(np.isnan(found.values), LEVELS < 9)


@pytest.mark.parametrize(("accuracy", "unit"), [("absolute", "metre"), ("relative", "relative")])
def test_heic_as_apple_says(accuracy: str, unit: str) -> None:
    pytest.importorskip("pillow_heif")
    found = _read(phone.heic(LEVELS, **phone.APPLE, Accuracy=accuracy))
    assert (found.kind, found.unit, found.origin) == ("inverse", unit, "Apple disparity in HEIC")
    assert np.abs(found.values - (0.5 + 4 * SHARE)).mean() < 0.02
    depth = {**phone.APPLE, "AuxiliaryImageType": "depth"}
    assert _read(phone.heic(LEVELS, **depth, Accuracy=accuracy)).kind == "depth"


@pytest.mark.parametrize(
    ("representation", "ends", "kind"),
    [(0, (2.0, 0.5), "inverse"), (1, (0.5, 4.5), "inverse"), (2, (0.5, 2.0), "depth")],
)
def test_heic_as_hevc_says(representation: int, ends: tuple[float, float], kind: str) -> None:
    pytest.importorskip("pillow_heif")
    # Of 1/z the numbers are z: the near one comes first, and the far one is level 0.
    low, high = (0.5, 2.0) if representation == 0 else ends
    found = _read(phone.heic(LEVELS, sei=phone.depth_sei(representation, low, high)))
    assert (found.kind, found.unit) == (kind, "relative")
    first, last = (1 / 2.0, 1 / 0.5) if representation == 0 else ends
    assert np.abs(found.values - (first + (last - first) * SHARE)).mean() < 0.02


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIC"])
def test_a_photograph_without_depth_gets_one_line(format: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.jpg"
    if format == "HEIC":
        heif = pytest.importorskip("pillow_heif")
        heif.from_bytes("RGB", (64, 48), bytes(64 * 48 * 3)).save(path, format="HEIF")
    else:
        path.write_bytes(phone.photograph(format=format))
    with pytest.raises(InputError, match=r"holds no depth that prv2 finds .* --coarse-depth FILE") as caught:
        _read(path.read_bytes())
    assert "\n" not in str(caught.value)


# --- damaged and hostile ----------------------------------------------------------------------------------


def _samples() -> dict[str, bytes]:
    picture = phone.encoded(DEEP)
    return {
        "gdepth": phone.gdepth(picture, Units="m", **LINEAR),
        "extended": phone.gdepth(picture, extended=True, Units="m", **INVERSE),
        "dynamic": phone.dynamic_depth(picture, Units="Meters", **INVERSE),
        "apple": phone.apple_jpeg(LEVELS),
    }


def _ends_well(data: bytes) -> None:
    try:
        found = _read(data)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
        assert str(error).startswith("p.jpg: ")  # noqa: PT017
    else:
        assert found.values.shape == found.levels.shape


@pytest.mark.parametrize("name", ["gdepth", "extended", "dynamic", "apple", "heic"])
def test_damage_ends_in_depth_or_in_our_own_error(name: str) -> None:
    if name == "heic":
        pytest.importorskip("pillow_heif")
    whole = (
        _samples()[name]
        if name != "heic"
        else phone.heic(LEVELS, sei=phone.depth_sei(1, 1, 2), **phone.APPLE)
    )
    rng = random.Random(name)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        _ends_well(bytes(damaged[: rng.choice((len(whole), rng.randrange(16, len(whole))))]))


def test_missing_pieces_of_extended_xmp_are_told() -> None:
    whole = phone.gdepth(phone.encoded(DEEP), extended=True, **LINEAR)
    start = whole.index(b"\xff\xe1", whole.index(b"http://ns.adobe.com/xmp/extension/"))
    size = int.from_bytes(whole[start + 2 : start + 4], "big") + 2
    with pytest.raises(InputError, match="parts of its extended XMP data are missing"):
        _read(whole[:start] + whole[start + size :])


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>',
        b"<a>" * 200_000,
        b"<a/>" * 200_000,
        b"\xff\xfe<\0a\0/\0>\0",
        b"<a",
        b"",
    ],
)
def test_xml_that_no_xmp_is(packet: bytes) -> None:
    with pytest.raises(InputError, match="its XMP data"):
        parse_packet(packet)


def test_claims_take_no_memory() -> None:
    """Sizes that a file claims are compared with what is there before anything is made of that size."""
    guid = hashlib.md5(b"").hexdigest().upper().encode()
    note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{guid.decode()}"'
    extension = b"http://ns.adobe.com/xmp/extension/\0" + guid + struct.pack(">II", 0xFFFFFFFF, 0) + b"x"
    segments = [*phone.xmp_segments(phone.packet("", note)), phone.segment(0xE1, extension)]
    ihdr = bytearray(phone.encoded(LEVELS))
    ihdr[16:24] = struct.pack(">II", 60_000, 60_000)
    tracemalloc.start()
    started = time.perf_counter()
    for data in (phone.with_segments(phone.photograph(), *segments), phone.gdepth(bytes(ihdr), **LINEAR)):
        with pytest.raises(InputError):
            _read(data)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()
    assert time.perf_counter() - started < 5


def test_half_steps_and_ends_of_a_range() -> None:
    found = ranged(Levels(LEVELS, 1.5), "rangelinear", 1.0, 3.0, "metre", "here")
    assert found.half_step == pytest.approx(1.5 * 2 / 255)
    assert (float(found.values[0, 0]), float(found.values[-1, -1])) == (1.0, 3.0)
