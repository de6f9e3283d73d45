"""Colours brought to sRGB, against closed-form conversions of profiles made here."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import ALPHA8, ALPHA16, RGB8, RGB16, chunk, grey, over_white, plain, png16, saved, tiff
from PIL import Image, ImageCms

from prv2cli.photo.read import read_photo

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D65_XY = (0.3127, 0.3290)
PRIMARIES = {
    "Adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "P3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    "709": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
}
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def rgb_to_xyz(primaries: str) -> np.ndarray:
    """Linear RGB to XYZ relative to D50: primaries scaled to the D65 white, adapted with Bradford."""
    columns = np.stack([xyz(*xy) for xy in PRIMARIES[primaries]], axis=1)
    white = xyz(*D65_XY)
    matrix = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    return adapt @ matrix


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))


def gamma_tag(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def table_tag(gamma: float, count: int = 1024) -> bytes:
    table = np.rint(np.linspace(0, 1, count) ** gamma * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", count) + table.tobytes()


def parametric_tag() -> bytes:
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + fixed(*SRGB_CURVE)


def profile(space: bytes, tags: dict[bytes, bytes], name: str = "Test wide") -> bytes:
    """A minimal ICC v2 display profile."""
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": b"XYZ " + bytes(4) + fixed(*D50),
        **tags,
    }
    directory, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        directory += struct.pack(">4sII", tag, start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    body = struct.pack(">I", len(tags)) + directory + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"none", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + fixed(*D50) + bytes(48)
    return head + body


def rgb_profile(primaries: str, curve: bytes, **options: str) -> bytes:
    columns = rgb_to_xyz(primaries).T
    tags = {
        name: b"XYZ " + bytes(4) + fixed(*c)
        for name, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    return profile(b"RGB ", {**tags, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)}, **options)


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma_tag(gamma)}, name="Test grey")


def encode(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def expected_srgb(pixels: np.ndarray, primaries: str, linear: np.ndarray) -> np.ndarray:
    """sRGB (H, W, 3) in levels of the type of `pixels`, from linear light in `primaries`."""
    matrix = np.linalg.inv(rgb_to_xyz("709")) @ rgb_to_xyz(primaries)
    return encode(linear @ matrix.T) * np.iinfo(pixels.dtype).max


def assert_close_at_16_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    """Within a tenth of an 8-bit level: a profile rounds its own numbers, which sRGB magnifies."""
    difference = np.abs(actual.astype(float) - expected)
    assert actual.dtype == np.uint16
    assert difference.max() <= 24
    assert difference.mean() <= 1


GAMMA = 2.19921875  # Adobe RGB
CURVES = {
    "gamma": (gamma_tag(GAMMA), lambda v: v**GAMMA),
    "table": (table_tag(1.8), lambda v: v**1.8),
    "parametric": (
        parametric_tag(),
        lambda v: np.where(v >= 0.04045, (np.maximum(v, 0) / 1.055 + 0.055 / 1.055) ** 2.4, v / 12.92),
    ),
}
NOTE = ("colour profile 'Test wide' converted to sRGB",)


@pytest.mark.parametrize("primaries", ["Adobe", "P3"])
@pytest.mark.parametrize("curve", CURVES)
def test_matrix_profiles(primaries: str, curve: str) -> None:
    tag, to_linear = CURVES[curve]
    icc = rgb_profile(primaries, tag)
    for format in ("PNG", "TIFF", "WEBP"):
        photo = read_photo(saved(RGB8, format, icc_profile=icc, lossless=True))
        expected = expected_srgb(RGB8, primaries, to_linear(RGB8 / 255))
        assert np.abs(photo.rgb - expected).max() <= 2
        assert photo.notes == NOTE
    photo = read_photo(tiff(RGB16, photometric="rgb", icc=icc))
    expected = expected_srgb(RGB16, primaries, to_linear(RGB16 / 65535))
    assert photo.rgb.dtype == np.uint16
    assert_close_at_16_bits(photo.rgb, expected)
    assert len(np.unique(photo.rgb[..., 2])) > 800
    assert photo.notes == NOTE


def test_profile_of_16_bit_png_and_alpha() -> None:
    icc = rgb_profile("Adobe", gamma_tag(GAMMA))
    extra = chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))
    photo = read_photo(png16(np.dstack([RGB16, ALPHA16]), extra=extra))
    opaque = expected_srgb(RGB16, "Adobe", (RGB16 / 65535) ** GAMMA)
    expected = over_white(np.rint(opaque).astype(np.uint16), ALPHA16)
    assert_close_at_16_bits(photo.rgb, expected)
    assert photo.notes == (*NOTE, "alpha channel composited on white")
    photo = read_photo(saved(np.dstack([RGB8, ALPHA8]), "PNG", icc_profile=icc))
    opaque = np.rint(expected_srgb(RGB8, "Adobe", (RGB8 / 255) ** GAMMA)).astype(np.uint8)
    assert np.abs(photo.rgb.astype(int) - over_white(opaque, ALPHA8).astype(int)).max() <= 3


def test_srgb_by_any_name_is_left_alone() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (own, rgb_profile("709", parametric_tag(), name="Monitor of Anna")):
        for file, pixels in (
            (saved(RGB8, "PNG", icc_profile=icc), RGB8),
            (tiff(RGB16, photometric="rgb", icc=icc), RGB16),
        ):
            photo = read_photo(file)
            np.testing.assert_array_equal(photo.rgb, pixels)
            assert photo.notes == ()


def test_grey_profiles() -> None:
    icc = grey_profile(1.8)
    for file, pixels, slack in (
        (saved(RGB8[..., 2], "PNG", icc_profile=icc), RGB8[..., 2], 2),
        (tiff(RGB16[..., 2], icc=icc), RGB16[..., 2], 24),
    ):
        photo = read_photo(file)
        top = np.iinfo(pixels.dtype).max
        assert np.abs(photo.rgb - grey(encode((pixels / top) ** 1.8) * top)).max() <= slack
        assert photo.rgb.dtype == pixels.dtype
        assert photo.notes == ("colour profile 'Test grey' converted to sRGB",)


def test_grey_picture_with_an_rgb_profile() -> None:
    icc = rgb_profile("Adobe", gamma_tag(1.8))
    photo = read_photo(saved(RGB8[..., 2], "JPEG", quality=100, icc_profile=icc))
    expected = grey(encode((RGB8[..., 2] / 255) ** 1.8) * 255)
    assert np.abs(photo.rgb - expected).max() <= 4
    assert photo.notes == NOTE


def test_profile_of_another_colour_model_is_ignored_with_a_note() -> None:
    photo = read_photo(saved(RGB8, "PNG", icc_profile=grey_profile(1.8)))
    np.testing.assert_array_equal(photo.rgb, RGB8)
    assert photo.notes == ("embedded colour profile ignored ('Test grey' is for GRAY pictures, not RGB)",)


@pytest.mark.parametrize("icc", [b"nonsense", rgb_profile("Adobe", gamma_tag(2.2))[:300], bytes(200)])
def test_broken_profile_is_ignored_with_a_note(icc: bytes) -> None:
    for file, pixels in (
        (saved(RGB8, "PNG", icc_profile=icc), RGB8),
        (saved(RGB8, "TIFF", icc_profile=icc), RGB8),
        (tiff(RGB16, photometric="rgb", icc=icc), RGB16),
    ):
        photo = read_photo(file)
        np.testing.assert_array_equal(photo.rgb, pixels)
        assert len(photo.notes) == 1
        assert "profile ignored" in photo.notes[0]


def lut_profile(space: bytes, inputs: int, nodes: list[list[float]]) -> bytes:
    """A profile that is a table: XYZ or Lab (16-bit) at each corner of the device cube ('mft2')."""
    head = (
        b"mft2"
        + bytes(4)
        + bytes([inputs, 3, 2, 0])
        + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
        + struct.pack(">HH", 2, 2)
    )
    ramp = struct.pack(">2H", 0, 65535)
    corners = np.rint(np.array(nodes)).astype(">u2").tobytes()
    icc = profile(space, {b"A2B0": head + ramp * inputs + corners + ramp * 3}, name="Test table")
    return icc[:20] + b"Lab " + icc[24:]


def lab_codes(lightness: float, a: float = 0, b: float = 0) -> list[float]:
    return [lightness / 100 * 65280, (a + 128) * 256, (b + 128) * 256]


def test_16_bit_with_a_table_profile_falls_to_8_bits_and_says_so() -> None:
    nodes = [lab_codes(100 * (r + g + b) / 3) for r in (0, 1) for g in (0, 1) for b in (0, 1)]
    photo = read_photo(tiff(RGB16, photometric="rgb", icc=lut_profile(b"RGB ", 3, nodes)))
    lightness = 100 * RGB16.mean(axis=-1) / 65535
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert photo.rgb.dtype == np.uint8
    assert np.abs(photo.rgb - grey(encode(luminance) * 255)).max() <= 2
    assert "8 bits" in photo.notes[0]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_profile(format: str) -> None:
    """A press on which each ink takes a share of the light: L* = 100 - 20 C - 20 M - 10 Y - 50 K."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    nodes = [lab_codes(float(100 - c @ [20, 20, 10, 50])) for c in corners]
    icc = lut_profile(b"CMYK", 4, nodes)
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 51))
    photo = read_photo(saved(image, format, icc_profile=icc))
    assert photo.notes == ("colour profile 'Test table' converted to sRGB",)
    expected = encode(np.array([((70 + 16) / 116) ** 3])) * 255
    np.testing.assert_allclose(photo.rgb[8, 8], np.repeat(expected, 3), atol=3)


def test_lab_tiff() -> None:
    lab = np.zeros((8, 8, 3), np.uint8)
    lab[..., 0] = 153  # L* = 60, a* = b* = 0
    file = io.BytesIO()
    Image.frombytes("LAB", (8, 8), lab.tobytes()).save(file, "TIFF")
    photo = read_photo(io.BytesIO(file.getvalue()))
    np.testing.assert_allclose(photo.rgb[4, 4], encode(np.array(((60 + 16) / 116) ** 3)) * 255, atol=2)
    assert photo.notes == ("CIELab colours converted to sRGB",)


def test_palette_picture_with_a_profile() -> None:
    icc = rgb_profile("Adobe", gamma_tag(GAMMA))
    image = plain(RGB8).quantize(256)
    colours = np.asarray(image.convert("RGB"))
    photo = read_photo(saved(image, "PNG", icc_profile=icc))
    assert np.abs(photo.rgb - expected_srgb(colours, "Adobe", (colours / 255) ** GAMMA)).max() <= 2


def test_the_coded_colours_of_avif() -> None:
    """Pillow does not tell them."""
    pytest.importorskip("PIL.AvifImagePlugin")
    whole = saved(RGB8, "AVIF", quality=100).getvalue()
    place = whole.index(b"colrnclx") + 8
    p3 = whole[:place] + struct.pack(">HH", 12, 13) + whole[place + 4 :]
    plain_pixels, coded = (read_photo(io.BytesIO(data)).rgb.astype(int) for data in (whole, p3))
    same = RGB8.astype(np.uint16) * 257
    by_code = read_photo(png16(same, extra=chunk(b"cICP", bytes((12, 13, 0, 1))))).rgb
    assert np.abs(coded - plain_pixels).max() > 8
    assert np.abs(coded - by_code / 257.0).mean() < 4
    hdr = whole[:place] + struct.pack(">HH", 9, 16) + whole[place + 4 :]
    assert any("HDR" in note for note in read_photo(io.BytesIO(hdr)).notes)
