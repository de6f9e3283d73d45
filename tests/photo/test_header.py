"""What is told from the header of a photograph: size, bits, and what its decoder holds."""

from __future__ import annotations

from pathlib import Path

import image_files as files
import pytest
from PIL import Image, ImageFile

from prv2cli.errors import InputError
from prv2cli.photo.header import read_header
from prv2cli.photo.read import read_photo


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_the_header_tells_size_and_bits(tmp_path: Path, format: str) -> None:
    path = tmp_path / "photo"
    path.write_bytes(files.saved(files.RGB8, format).getvalue())
    header = read_header(path)
    assert (header.width, header.height, header.deep) == (files.W, files.H, False)
    assert header.decoding >= 4 * files.W * files.H


def test_the_header_is_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, source in {
        "a.jpg": files.saved(files.RGB8, "JPEG", exif=exif),
        "a.tif": files.tiff(files.RGB16, photometric="rgb", extratags=[(274, 3, 1, 6, True)]),
    }.items():
        (tmp_path / name).write_bytes(source.getvalue())
        header = read_header(tmp_path / name)
        assert (header.width, header.height) == (files.H, files.W)
        assert header.deep == (name == "a.tif")


@pytest.mark.parametrize("late", [False, True])
def test_the_header_of_a_png_needs_none_of_its_pixels(
    tmp_path: Path, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow decodes them in search of EXIF data, which may stand behind."""
    exif = Image.Exif()
    exif[0x0112] = 6
    whole, told = files.saved(files.RGB8, "PNG").getvalue(), files.chunk(b"eXIf", exif.tobytes()[6:])
    at = whole.index(b"IEND") - 4 if late else 8 + 25
    path = tmp_path / "a.png"
    path.write_bytes(whole[:at] + told + whole[at:])
    assert read_photo(path).rgb.shape[:2] == (files.W, files.H)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    header = read_header(path)
    assert (header.width, header.height) == (files.H, files.W)


def test_a_progressive_jpeg_takes_more(tmp_path: Path) -> None:
    for name, options in {"base": {}, "420": {"progressive": True}}.items():
        (tmp_path / name).write_bytes(files.saved(files.RGB8, "JPEG", **options).getvalue())
    base, progressive = (read_header(tmp_path / name).decoding for name in ("base", "420"))
    assert base == 4 * files.W * files.H
    assert progressive == pytest.approx(7 * files.W * files.H, abs=1)


def test_in_bands_the_picture_of_a_progressive_jpeg_lies_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held then are the coefficients: 2 bytes for each pixel of the luma and half as many of the chroma."""
    (tmp_path / "a").write_bytes(files.saved(files.RGB8, "JPEG", progressive=True).getvalue())
    monkeypatch.setattr("prv2cli.photo.formats.jpeg.bands.POSSIBLE", True)
    assert read_header(tmp_path / "a").decoding_bands == pytest.approx(3 * files.W * files.H, abs=1)
    monkeypatch.setattr("prv2cli.photo.formats.jpeg.bands.POSSIBLE", False)
    assert read_header(tmp_path / "a").decoding_bands == pytest.approx(7 * files.W * files.H, abs=1)


def test_the_header_of_what_is_no_photograph(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture at all, but some text")
    with pytest.raises(InputError, match=r"a\.jpg"):
        read_header(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(files.saved(files.RGB8, "JPEG").getvalue())
    with pytest.raises(InputError, match="--max-pixels"):
        read_header(tmp_path / "b.jpg", max_pixels=10)
