"""Reading photographs: every format and pixel kind against values known beforehand."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import (
    ALPHA8,
    GREY8,
    ORIENTED,
    RGB8,
    RGB16,
    H,
    W,
    chunk,
    grey,
    over_white,
    plain,
    png16,
    recompressed,
    saved,
    tiff,
)
from PIL import Image, ImageFile

from prv2cli.photo.read import read_photo

# --- Eight bits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        *(("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
    ],
)
def test_lossless_formats_return_the_pixels(format: str, options: dict[str, object]) -> None:
    file = saved(RGB8, format, **options)
    photo = read_photo(file, name="a.bin")
    np.testing.assert_array_equal(photo.rgb, RGB8)
    assert photo.rgb.dtype == np.uint8
    assert photo.notes == ()
    assert photo.focal_px is None
    assert photo.name == "a.bin"
    assert photo.sha256 == hashlib.sha256(file.getvalue()).hexdigest()


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_come_close(format: str) -> None:
    if format == "AVIF":
        pytest.importorskip("PIL.AvifImagePlugin")
    photo = read_photo(saved(RGB8, format, quality=95))
    assert np.abs(photo.rgb.astype(int) - RGB8).mean() < 3
    assert photo.notes == ()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_8_bit_tiff_layouts(planar: str, compression: str | None) -> None:
    pixels = RGB8 if planar == "contig" else np.moveaxis(RGB8, 2, 0)
    photo = read_photo(tiff(pixels, photometric="rgb", planarconfig=planar, compression=compression))
    np.testing.assert_array_equal(photo.rgb, RGB8)


PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)


def paletted() -> Image.Image:
    image = Image.fromarray(GREY8).convert("P")
    image.putpalette(PALETTE.tobytes())
    image.putdata(GREY8.ravel().tolist())
    return image


ALPHA_OF_INDEX = bytes(range(255, -1, -1))
MODES: dict[str, tuple[Image.Image, dict[str, Any], np.ndarray]] = {
    "1": (plain(GREY8 > 90), {}, grey(np.where(GREY8 > 90, 255, 0))),
    "L": (plain(GREY8), {}, grey(GREY8)),
    "L, one level clear": (plain(GREY8), {"transparency": 40}, grey(np.where(GREY8 == 40, 255, GREY8))),
    "LA": (plain(np.dstack([GREY8, ALPHA8])), {}, over_white(grey(GREY8), ALPHA8)),
    "P": (paletted(), {}, PALETTE[GREY8]),
    "P, one index clear": (
        *(paletted(), {"transparency": 40}),
        np.where((GREY8 == 40)[..., None], 255, PALETTE[GREY8]),
    ),
    "P, soft": (
        *(paletted(), {"transparency": ALPHA_OF_INDEX}),
        over_white(PALETTE[GREY8], 255 - GREY8),
    ),
    "RGB, one colour clear": (
        *(plain(RGB8), {"transparency": tuple(int(v) for v in RGB8[5, 9])}),
        np.where(np.equal(RGB8, RGB8[5, 9]).all(axis=-1, keepdims=True), 255, RGB8),
    ),
    "RGBA": (plain(np.dstack([RGB8, ALPHA8])), {}, over_white(RGB8, ALPHA8)),
}


@pytest.mark.parametrize("mode", MODES)
def test_png_modes(mode: str) -> None:
    image, options, expected = MODES[mode]
    photo = read_photo(saved(image, "PNG", **options))
    np.testing.assert_array_equal(photo.rgb, expected)
    clear = mode in ("LA", "RGBA") or bool(options)
    assert photo.notes == (("alpha channel composited on white",) if clear else ())


def test_opaque_alpha_needs_no_note() -> None:
    photo = read_photo(saved(np.dstack([RGB8, np.full_like(GREY8, 255)]), "PNG"))
    np.testing.assert_array_equal(photo.rgb, RGB8)
    assert photo.notes == ()


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])  # Pillow's CMYK JPEG is the inverted kind of Adobe
def test_cmyk_without_profile(format: str) -> None:
    image = Image.new("CMYK", (16, 16), (255, 128, 0, 51))
    photo = read_photo(saved(image, format))
    expected = [0, (255 - 128) * 204 / 255, 204]
    np.testing.assert_allclose(photo.rgb[8, 8], expected, atol=3)
    assert any("CMYK" in note for note in photo.notes)


def test_animation_gives_its_first_frame() -> None:
    second = [Image.fromarray(255 - RGB8)]
    for format in ("PNG", "WEBP"):
        photo = read_photo(saved(RGB8, format, save_all=True, append_images=second, lossless=True))
        np.testing.assert_array_equal(photo.rgb, RGB8)
        assert photo.notes == ("animation: only the first frame is read",)


# --- Orientation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int, tmp_path: Path) -> None:
    stored8, stored16 = ORIENTED[orientation](RGB8), ORIENTED[orientation](RGB16)
    tags = Image.Exif()
    tags[0x0112] = orientation
    exif = tags.tobytes()
    for format in ("PNG", "TIFF", "WEBP"):
        photo = read_photo(saved(stored8, format, exif=exif, lossless=True))
        np.testing.assert_array_equal(photo.rgb, RGB8, err_msg=format)
    photo = read_photo(saved(stored8, "JPEG", exif=exif, quality=95))
    assert photo.rgb.shape == RGB8.shape
    assert np.abs(photo.rgb.astype(int) - RGB8).mean() < 3
    png = png16(stored16, extra=chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    np.testing.assert_array_equal(read_photo(png).rgb, RGB16)
    tag: dict[str, Any] = {"photometric": "rgb", "extratags": [(274, 3, 1, orientation, True)]}
    np.testing.assert_array_equal(read_photo(tiff(stored16, **tag)).rgb, RGB16)
    np.testing.assert_array_equal(read_photo(tiff(stored8, compression="zlib", **tag)).rgb, RGB8)
    packed = recompressed(tmp_path / "a.tif", stored16, 5, **tag)
    np.testing.assert_array_equal(read_photo(packed).rgb, RGB16)


def test_nonsense_orientation_and_broken_exif_do_not_stop() -> None:
    tags = Image.Exif()
    tags[0x0112] = 77
    np.testing.assert_array_equal(read_photo(saved(RGB8, "PNG", exif=tags.tobytes())).rgb, RGB8)
    file = saved(RGB8, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert read_photo(file).rgb.shape == RGB8.shape


# --- Streams, HEIC, the process ----------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """An unseekable stream that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(memoryview(buffer)[:1000])


@pytest.mark.parametrize("buffered", [True, False])
def test_pipe(buffered: bool) -> None:
    data = saved(RGB8, "PNG").getvalue()
    pipe: Any = Pipe(data)
    source = io.BufferedReader(pipe) if buffered else pipe
    photo = read_photo(source, name="<stdin>")
    np.testing.assert_array_equal(photo.rgb, RGB8)
    assert photo.sha256 == hashlib.sha256(data).hexdigest()
    assert photo.name == "<stdin>"


def test_stream_is_read_from_where_it_stands() -> None:
    data = saved(RGB8, "PNG").getvalue()
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    photo = read_photo(file)
    np.testing.assert_array_equal(photo.rgb, RGB8)
    assert photo.sha256 == hashlib.sha256(data).hexdigest()
    assert not file.closed


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic(orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    tags = Image.Exif()
    tags[0x0112] = orientation  # pillow-heif writes it as a turn of the container, as cameras do
    tags[0x8769] = {0xA405: 28}
    file = io.BytesIO()
    heif.from_pillow(plain(ORIENTED[orientation](RGB8))).save(file, quality=95, exif=tags.tobytes())
    photo = read_photo(io.BytesIO(file.getvalue()), name="really.jpg")
    assert photo.rgb.dtype == np.uint8
    assert photo.rgb.shape == RGB8.shape
    assert np.abs(photo.rgb.astype(int) - RGB8).mean() < 3
    assert photo.focal_px == pytest.approx(28 * np.hypot(H, W) / np.hypot(36, 24))


def test_10_bit_heic() -> None:
    heif = pytest.importorskip("pillow_heif")
    deep = np.broadcast_to(np.linspace(0, 65535, 1024).astype(np.uint16)[None, :, None], (64, 1024, 3))
    file = io.BytesIO()
    heif.from_bytes("RGB;16", (1024, 64), deep.tobytes()).save(file, quality=-1, chroma=444)
    photo = read_photo(io.BytesIO(file.getvalue()))
    assert photo.rgb.dtype == np.uint16
    assert np.abs(photo.rgb.astype(int) - deep).max() < 600
    assert len(np.unique(photo.rgb)) > 700
    assert photo.rgb.max() == 65535


def test_threads_leave_the_global_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    filters = list(warnings.filters)
    data = saved(RGB8, "TIFF", compression="tiff_lzw").getvalue()
    wrong: list[object] = []

    def work() -> None:
        photos = [read_photo(io.BytesIO(data)) for _ in range(20)]
        wrong.extend(photo for photo in photos if not np.array_equal(photo.rgb, RGB8))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (100, True)
    assert list(warnings.filters) == filters


def test_torch_is_not_imported() -> None:
    code = "import sys, prv2cli.photo.read; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
