"""What is refused: one clear message that names the file and the fix, whatever the bytes."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from image_files import ALPHA8, RGB8, RGB16, chunk, png16, recompressed, saved, tiff
from PIL import Image, ImageFile

from prv2cli.errors import InputError, MissingExtraError, Prv2Error, UsageError
from prv2cli.photo.opening import MAX_PIXELS_DEFAULT
from prv2cli.photo.read import read_photo

JPEG = saved(RGB8, "JPEG").getvalue()
PNG = saved(RGB8, "PNG").getvalue()
NO_PIXELS_PNG = PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)) + PNG[33:]
NO_PIXELS_BMP = (
    b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 0, 4, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(4)
)
HUGE_PNG = PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 30_001, 30_000, 8, 2, 0, 0, 0)) + PNG[33:]
START_OF_FRAME = JPEG.find(b"\xff\xc0")
NO_PIXELS_JPEG = JPEG[: START_OF_FRAME + 5] + b"\0\0" + JPEG[START_OF_FRAME + 7 :]


def tagged(*tags: tuple[int, int, int, object, bool], **options: Any) -> bytes:
    return tiff(RGB8, photometric="rgb", extratags=list(tags), **options).getvalue()


def raw_like() -> bytes:
    """A small preview first and the real picture in a sub-directory, as in camera raw files."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(RGB8, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(RGB16, photometric="rgb", metadata=None)
    return file.getvalue()


REFUSED: dict[
    str, tuple[str, bytes, str]
] = {  # name of the case: (file name, content, pattern of the message)
    "empty": ("a.jpg", b"", r"empty.*(copy|download)"),
    "text": ("a.jpg", b"Dear friend,\nthis is no picture.\n", "text.*JPEG, PNG, WebP, TIFF, BMP"),
    "UTF-16 text": ("a.jpg", "Dear friend".encode("utf-16"), "it is text"),
    "long text": ("a.jpg", b"x" * 4095 + "é".encode(), "it is text"),
    "BM text": ("a.bmp", b"BMW is a maker of cars", "it is text"),
    "web page": ("a.jpg", b"\n<!DOCTYPE html><html>", r"web page\. Download the picture"),
    "svg": ("a.svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG.*Convert"),
    "lfs": ("a.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "gif": ("a.gif", b"GIF89a" + bytes(40), "a GIF.*Convert it to one of JPEG"),
    "pdf": ("a.pdf", b"%PDF-1.7\n" + bytes(40), "PDF"),
    "zip": ("a.jpg", b"PK\3\4" + bytes(40), "ZIP"),
    "jxl": ("a.jxl", b"\xff\x0a" + bytes(40), "JPEG XL"),
    "video": ("a.heic", b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "a video"),
    "zeros": ("a.jpg", bytes(9000), "zero bytes.*again"),
    "noise": ("a.jpg", bytes(range(128, 256)) * 9, "unknown kind"),
    "cr2": ("a.CR2", b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "raw.*16-bit TIFF"),
    "cr3": ("a.CR3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40), "raw.*16-bit TIFF"),
    "raf": ("a.raf", b"FUJIFILMCCD-RAW 0201" + bytes(40), "raw.*16-bit TIFF"),
    "nef by name": ("a.NEF", tagged(), "raw.*16-bit TIFF"),
    "dng": ("a.tif", tagged((50706, 1, 4, (1, 4, 0, 0), True)), "raw.*16-bit TIFF"),
    "raw preview": ("a.tif", raw_like(), "raw.*16-bit TIFF"),
    "no pixels, PNG": ("a.png", NO_PIXELS_PNG, r"no pixels \(0 x 5\)"),
    "no pixels, BMP": ("a.bmp", NO_PIXELS_BMP, r"no pixels \(0 x 4\)"),
    "no pixels, JPEG": ("a.jpg", NO_PIXELS_JPEG, r"no pixels \(\d+ x 0\)"),
    "huge": ("a.png", HUGE_PNG, r"900\.0 megapixels, over the limit of 700\.0.*--max-pixels 900030000"),
    "int16 TIFF": (
        "a.tif",
        tiff(RGB16.astype("i2"), photometric="rgb").getvalue(),
        "int16 values. Save it as",
    ),
    "uint32 TIFF": (
        "a.tif",
        tiff(RGB16.astype("u4"), photometric="rgb").getvalue(),
        "uint32 values. Save it as",
    ),
    "float TIFF, 0..255": (
        "a.tif",
        tiff(RGB8.astype("f4"), photometric="rgb").getvalue(),
        r"0 to \d+.*Scale them to 0\.\.1",
    ),
    "float TIFF, NaN": (
        "a.tif",
        tiff(np.full((9, 9), np.nan, "f4")).getvalue(),
        r"NaN.*Scale them to 0\.\.1",
    ),
    "bare JPEG start": ("a.jpg", b"\xff\xd8\xff\xe0", "damaged or cut short.*again"),
    "bare PNG start": ("a.png", PNG[:8], "damaged or cut short.*again"),
    "bare TIFF start": ("a.tif", b"II*\0", "damaged or cut short.*again"),
    "damaged PNG": ("a.png", PNG.replace(b"IDAT", b"IDAT\x55"), "damaged or cut short.*again"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_content(case: str, tmp_path: Path) -> None:
    name, content, pattern = REFUSED[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"(?s){pattern}") as raised:
        read_photo(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert raised.value.exit_code == 1
    if case == "nef by name":
        return
    with pytest.raises(InputError, match=r"^<stdin>: "):
        read_photo(io.BytesIO(content), name="<stdin>")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.jpg"
    with pytest.raises(InputError, match=r"nowhere\.jpg: no such file\. Check the path"):
        read_photo(missing)
    with pytest.raises(InputError, match="cannot be opened"):
        read_photo(Path("a\0b.jpg"))
    with pytest.raises(UsageError, match=r"folder.*prv2 batch") as raised:
        read_photo(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert raised.value.exit_code == 2


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"a\.jpg: no permission.*chmod"):
        read_photo(path)


def test_closed_stream() -> None:
    file = io.BytesIO(JPEG)
    file.close()
    with pytest.raises(InputError, match="cannot be read"):
        read_photo(file)


def test_not_enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", exhausted)
    with pytest.raises(InputError, match=r"a\.jpg: not enough memory.*smaller"):
        read_photo(io.BytesIO(JPEG), name="a.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_pixel_limit(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(RGB8, format).getvalue()
    pixels = RGB8.shape[0] * RGB8.shape[1]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit has no say
    assert read_photo(io.BytesIO(content), max_pixels=pixels).rgb.shape == RGB8.shape
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=f"megapixels.*--max-pixels {pixels}"):
        read_photo(io.BytesIO(content), max_pixels=pixels - 1)


def test_default_limit_allows_a_large_scan() -> None:
    assert MAX_PIXELS_DEFAULT >= 30_000 * 20_000


def test_heic_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic = b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + bytes(100)
    with pytest.raises(
        MissingExtraError, match=r"Reading HEIC photographs.*pip install 'prv2cli\[heif\]'"
    ) as raised:
        read_photo(io.BytesIO(heic), name="holiday.jpg")
    assert "holiday.jpg" in str(raised.value)


def test_missing_strips_are_not_read_as_black(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for tag, value in ((279, 0), (273, 0), (273, 1 << 30)):
        tifffile.imwrite(path, RGB16, photometric="rgb", compression="zlib", rowsperstrip=64)
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages.first.tags[tag].overwrite(value)
        with pytest.raises(InputError, match=r"a\.tif: damaged or cut short"):
            read_photo(path)


# --- Any bytes at all --------------------------------------------------------------------------------------


def heic() -> bytes:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(RGB8)).save(file)
    return file.getvalue()


def avif() -> bytes:
    pytest.importorskip("PIL.AvifImagePlugin")
    return saved(RGB8, "AVIF").getvalue()


WHOLE: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(RGB8, "JPEG", exif=Image.Exif().tobytes()).getvalue(),
    "JPEG, progressive": lambda: saved(RGB8, "JPEG", progressive=True).getvalue(),
    "PNG": lambda: saved(np.dstack([RGB8, ALPHA8]), "PNG").getvalue(),
    "PNG, 16-bit": lambda: png16(RGB16).getvalue(),
    "WebP": lambda: saved(RGB8, "WEBP").getvalue(),
    "WebP, lossless": lambda: saved(RGB8, "WEBP", lossless=True).getvalue(),
    "TIFF": lambda: saved(RGB8, "TIFF").getvalue(),
    "TIFF, LZW": lambda: saved(RGB8, "TIFF", compression="tiff_lzw").getvalue(),
    "TIFF, 16-bit": lambda: tiff(RGB16, photometric="rgb").getvalue(),
    "TIFF, 16-bit deflate": lambda: tiff(RGB16, photometric="rgb", compression="zlib").getvalue(),
    "BMP": lambda: saved(RGB8, "BMP").getvalue(),
    "HEIC": heic,
    "AVIF": avif,
}


@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_files_are_refused(kind: str) -> None:
    """Those that lack pixels: a PNG may lack its end."""
    whole = WHOLE[kind]()
    pixels = read_photo(io.BytesIO(whole)).rgb
    for length in (*(len(whole) * i // 20 for i in range(20)), len(whole) - 3):
        part = io.BytesIO(whole[: max(length, 40)])
        if kind.startswith("PNG") and length >= len(whole) - 12:
            photo = read_photo(part, name="cut.bin")
            np.testing.assert_array_equal(photo.rgb, pixels)
            assert any("its end is missing" in note for note in photo.notes)
            continue
        if kind.startswith("PNG") and length > len(whole) - 40:
            continue  # part of a checksum of the pixels: refused or read
        with pytest.raises(InputError, match=r"^cut\.bin: "):
            read_photo(part, name="cut.bin")


def test_truncated_16_bit_lzw_is_refused(tmp_path: Path) -> None:
    whole = recompressed(tmp_path / "a.tif", RGB16, 5, photometric="rgb").read_bytes()
    for cut in (1000, len(whole) // 2, len(whole) - 300):
        with pytest.raises(InputError):
            read_photo(io.BytesIO(whole[:cut]))


@pytest.mark.parametrize("kind", WHOLE)
def test_flipped_bits_end_in_a_photo_or_in_our_own_error(kind: str) -> None:
    whole = WHOLE[kind]()
    random = np.random.default_rng(len(kind))
    for i in range(100):
        damaged = bytearray(whole)
        # Half of the flips in the first bytes, where the structure is.
        for at in random.integers(0, min(len(whole), 400) if i % 2 else len(whole), 1 + i % 3):
            damaged[at] ^= 1 << int(random.integers(8))
        refusal = None
        try:
            photo = read_photo(io.BytesIO(bytes(damaged)), max_pixels=100_000)
        except Prv2Error as error:
            refusal = str(error)
        if refusal is not None:
            assert "\n" not in refusal
        else:
            assert photo.rgb.ndim == 3
            assert photo.rgb.shape[2] == 3
            assert photo.rgb.dtype in (np.uint8, np.uint16)
