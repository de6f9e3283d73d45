"""Reading 16-bit and float photographs: nothing is truncated."""

from __future__ import annotations

import io
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from image_files import ALPHA16, GREY8, RGB8, RGB16, chunk, grey, over_white, png16, recompressed, tiff

from prv2cli.errors import InputError
from prv2cli.photo.read import read_photo

# --- Sixteen bits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, None])
def test_16_bit_png_filters(kind: int | None, interlaced: bool) -> None:
    photo = read_photo(png16(RGB16, kind, interlaced))
    assert photo.rgb.dtype == np.uint16
    np.testing.assert_array_equal(photo.rgb, RGB16)
    assert len(np.unique(photo.rgb[..., 2])) > 1000


def test_16_bit_png_grey_and_alpha() -> None:
    values = RGB16[..., 2]
    np.testing.assert_array_equal(read_photo(png16(values[..., None])).rgb, grey(values))
    photo = read_photo(png16(np.dstack([values, ALPHA16])))
    np.testing.assert_array_equal(photo.rgb, over_white(grey(values), ALPHA16))
    assert photo.notes == ("alpha channel composited on white",)
    photo = read_photo(png16(np.dstack([RGB16, ALPHA16])))
    np.testing.assert_array_equal(photo.rgb, over_white(RGB16, ALPHA16))


def test_16_bit_png_clear_colour() -> None:
    clear = RGB16[5, 9]
    photo = read_photo(png16(RGB16, extra=chunk(b"tRNS", struct.pack(">3H", *map(int, clear)))))
    expected = np.where(np.equal(RGB16, clear).all(axis=-1, keepdims=True), 65535, RGB16)
    np.testing.assert_array_equal(photo.rgb, expected)
    level = int(RGB16[5, 9, 2])
    photo = read_photo(png16(RGB16[..., 2:], extra=chunk(b"tRNS", struct.pack(">H", level))))
    np.testing.assert_array_equal(photo.rgb, grey(np.where(RGB16[..., 2] == level, 65535, RGB16[..., 2])))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "byteorder": ">"},
        {"tile": (16, 32), "compression": "zlib"},
        {"planarconfig": "separate", "compression": "zlib"},
        {"planarconfig": "separate", "byteorder": ">"},
    ],
)
def test_16_bit_tiff_layouts(options: dict[str, Any]) -> None:
    pixels = np.moveaxis(RGB16, 2, 0) if "planarconfig" in options else RGB16
    photo = read_photo(tiff(pixels, photometric="rgb", **options))
    assert photo.rgb.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(photo.rgb, RGB16)
    assert photo.notes == ()


@pytest.mark.parametrize("code", [5, 32773])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_tiff_compressed_with_lzw_and_packbits(tmp_path: Path, code: int, byteorder: str) -> None:
    path = tmp_path / "a.tif"
    recompressed(path, RGB16, code, photometric="rgb", byteorder=byteorder)
    np.testing.assert_array_equal(read_photo(path).rgb, RGB16)
    recompressed(path, RGB16[..., 2], code, photometric="minisblack", byteorder=byteorder)
    np.testing.assert_array_equal(read_photo(path).rgb, grey(RGB16[..., 2]))
    for alpha in ("unassalpha", "assocalpha"):
        pixels = np.dstack([RGB16 // 2, np.full_like(ALPHA16, 32768)])
        recompressed(path, pixels, code, photometric="rgb", extrasamples=[alpha], byteorder=byteorder)
        colour = RGB16 // 2 if alpha == "unassalpha" else np.minimum(RGB16 // 2 * (65535 / 32768), 65535)
        expected = colour * (32768 / 65535) + 65535 * (32767 / 65535)
        np.testing.assert_allclose(read_photo(path).rgb, expected, atol=1)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (np.moveaxis(RGB16, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (RGB16[..., 2], {"photometric": "miniswhite", "byteorder": ">"}),
        (RGB16.astype("f4") / 65535, {"photometric": "rgb", "byteorder": ">"}),
    ],
)
def test_lzw_of_planes_inverted_greys_and_floats(
    tmp_path: Path, pixels: np.ndarray, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    packed = read_photo(recompressed(path, pixels, 5, **options)).rgb
    np.testing.assert_array_equal(packed, read_photo(tiff(pixels, **options)).rgb)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs undoes them all")
@pytest.mark.parametrize("pixels", [RGB8, RGB16])
@pytest.mark.parametrize("code", [34887, 34712, 50002])
def test_compressions_that_nobody_here_undoes_are_named(pixels: np.ndarray, code: int) -> None:
    file = tiff(pixels, photometric="rgb")
    with tifffile.TiffFile(file, mode="r+") as opened:
        opened.pages.first.tags[259].overwrite(code)
    name = {34887: "LERC", 34712: "JPEG2000", 50002: "JPEGXL"}[code]
    with pytest.raises(InputError, match=rf"compressed with {name}.*Deflate.*imagecodecs") as raised:
        read_photo(io.BytesIO(file.getvalue()))
    assert "damaged" not in str(raised.value)


def test_16_bit_tiff_grey_alpha_and_extra_channels() -> None:
    values = RGB16[..., 2]
    np.testing.assert_array_equal(read_photo(tiff(values)).rgb, grey(values))
    inverted = read_photo(tiff(values, photometric="miniswhite"))
    np.testing.assert_array_equal(inverted.rgb, grey(65535 - values))
    pixels = np.dstack([RGB16, ALPHA16])
    photo = read_photo(tiff(pixels, photometric="rgb", extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(photo.rgb, over_white(RGB16, ALPHA16))
    photo = read_photo(tiff(pixels, photometric="rgb", extrasamples=["unspecified"]))
    np.testing.assert_array_equal(photo.rgb, RGB16)
    assert photo.notes == ("1 channel beyond the colours ignored",)


def test_8_bit_tiff_with_more_channels_than_pillow_knows() -> None:
    pixels = np.dstack([GREY8, *[255 - GREY8] * 6])
    photo = read_photo(tiff(pixels, photometric="minisblack", planarconfig="contig"))
    np.testing.assert_array_equal(photo.rgb, grey(GREY8))
    assert photo.notes == ("6 channels beyond the colours ignored",)


def test_16_bit_cmyk_tiff() -> None:
    pixels = np.full((8, 8, 4), [65535, 32768, 0, 13107], np.uint16)
    photo = read_photo(tiff(pixels, photometric="separated"))
    np.testing.assert_allclose(photo.rgb[4, 4], [0, (255 - 128) * 204 / 255, 204], atol=2)
    assert len(photo.notes) == 2


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_float_tiff_is_scaled_to_16_bits(dtype: str) -> None:
    pixels = (RGB16 / 65535).astype(dtype)
    photo = read_photo(tiff(pixels, photometric="rgb"))
    np.testing.assert_array_equal(photo.rgb, np.rint(pixels.astype("f4") * 65535).astype(np.uint16))
    assert photo.rgb.dtype == np.uint16
    assert any("0..1" in note for note in photo.notes)


@pytest.mark.parametrize("pixels", [RGB8, RGB16])
def test_multi_page_tiff_gives_its_first_page(pixels: np.ndarray) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in (pixels, 255 - pixels, pixels):
            writer.write(page, photometric="rgb", metadata=None)
    file.seek(0)
    photo = read_photo(file)
    np.testing.assert_array_equal(photo.rgb, pixels)
    assert photo.notes == ("3 pages: only the first is read",)
