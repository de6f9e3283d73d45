"""Photographs read onto disk in bands: the same values as those read into memory, little memory, nothing left."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import image_files as files
import numpy as np
import pytest
import tifffile
from disk_arrays import small_bands
from PIL import Image

from prv2cli.errors import InputError
from prv2cli.files import disk_array
from prv2cli.files.disk_array import DiskArray
from prv2cli.photo import on_disk as photo_reader
from prv2cli.photo.formats import tiff_bands
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import read_photo
from prv2cli.resampling.area import reduce_photograph


@pytest.fixture(autouse=True)
def _small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures go through many bands, too."""
    small_bands(monkeypatch)


def assert_read_alike(source: io.BytesIO, folder: Path) -> None:
    whole = read_photo(io.BytesIO(source.getvalue()), name="photo")
    with photo_on_disk(source, folder, name="photo") as photo:
        assert isinstance(photo.rgb, DiskArray)
        pixels = photo.rgb[:]
        assert pixels.dtype == whole.rgb.dtype
        assert np.array_equal(pixels, whole.rgb)
        assert (photo.focal_px, photo.notes, photo.sha256) == (whole.focal_px, whole.notes, whole.sha256)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"rowsperstrip": 4},
        {"rowsperstrip": 5, "compression": "zlib"},
        {"rowsperstrip": 5, "compression": "zlib", "predictor": True},
        {"rowsperstrip": 3, "bigtiff": True},
        {"rowsperstrip": 3, "byteorder": ">"},
        {"tile": (16, 32)},
        {"tile": (16, 16), "compression": "zlib"},
        {"compression": "zlib"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "pixels", [files.RGB8, files.RGB16, files.GREY8, files.ALPHA16], ids=lambda p: p.dtype
)
def test_tiffs_are_read_alike(tmp_path: Path, pixels: np.ndarray, layout: dict[str, Any]) -> None:
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    assert_read_alike(files.tiff(pixels, photometric=photometric, **layout), tmp_path)


@pytest.mark.parametrize(
    "layout", [{"rowsperstrip": 4}, {"tile": (16, 16), "compression": "zlib"}, {}], ids=str
)
@pytest.mark.parametrize("pixels", [files.RGB8, files.RGB16], ids=["8", "16"])
def test_planes_are_read_alike(tmp_path: Path, pixels: np.ndarray, layout: dict[str, Any]) -> None:
    planes = np.moveaxis(pixels, -1, 0)
    assert_read_alike(files.tiff(planes, photometric="rgb", planarconfig="separate", **layout), tmp_path)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("deep", [False, True])
def test_transparency_is_read_alike(tmp_path: Path, kind: str, deep: bool) -> None:
    pixels = np.dstack([files.RGB16, files.ALPHA16] if deep else [files.RGB8, files.ALPHA8])
    assert_read_alike(files.tiff(pixels, photometric="rgb", extrasamples=[kind], rowsperstrip=4), tmp_path)


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        ("RGB", "tiff_lzw"),
        ("RGB", "packbits"),
        ("RGB", "jpeg"),
        ("YCbCr", "jpeg"),
        ("P", "tiff_lzw"),
        ("CMYK", "tiff_lzw"),
        ("1", "group4"),
        ("LA", "tiff_adobe_deflate"),
    ],
)
def test_other_compressions_are_read_alike(tmp_path: Path, mode: str, compression: str) -> None:
    image = files.plain(np.tile(files.RGB8, (3, 1, 1))).convert(mode)
    source = files.saved(image, "TIFF", compression=compression, tiffinfo={278: 8})
    runs = set()
    real = tiff_bands._Runs.decoded

    def counted(self: Any, index: Any) -> Any:
        runs.add(index)
        return real(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff_bands._Runs, "decoded", counted)
        assert_read_alike(source, tmp_path)
    assert len(runs) > 5  # it was not decoded whole


def test_float_tiffs_are_read_alike_and_refused_alike(tmp_path: Path) -> None:
    values = (files.RGB16 / 65535).astype(np.float32)
    assert_read_alike(files.tiff(values, photometric="rgb", rowsperstrip=4), tmp_path)
    values[-1, 3] = 7
    with (
        pytest.raises(InputError, match=r"photo: its float values are not in 0\.\.1"),
        photo_on_disk(files.tiff(values, photometric="rgb", rowsperstrip=4), tmp_path, name="photo"),
    ):
        pass


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_alike(tmp_path: Path, orientation: int) -> None:
    stored = np.ascontiguousarray(files.ORIENTED[orientation](files.RGB8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0xA405] = 35
    variants: list[tuple[str, dict[str, Any]]] = [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 4, 274: orientation}}),
    ]
    for format, options in variants:
        assert_read_alike(files.saved(stored, format, exif=exif, **options), tmp_path)
    deep = np.ascontiguousarray(files.ORIENTED[orientation](files.RGB16))
    tags = [(274, 3, 1, orientation, True)]
    source = files.tiff(deep, photometric="rgb", rowsperstrip=4, extratags=tags)
    assert_read_alike(source, tmp_path)
    with photo_on_disk(io.BytesIO(source.getvalue()), tmp_path) as photo:
        assert np.array_equal(photo.rgb[:], files.RGB16)


def test_a_deep_png_is_read_alike(tmp_path: Path) -> None:
    assert_read_alike(files.png16(files.RGB16), tmp_path)


def test_strips_are_never_all_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (disk_array, "BAND_PIXELS"),
        (photo_reader, "BAND_PIXELS"),
        (tiff_bands, "RUN_PIXELS"),
    ):
        monkeypatch.setattr(module, name, 50_000)
    pixels = np.arange(1200 * 1500 * 3, dtype=np.uint16).reshape(1200, 1500, 3)
    tifffile.imwrite(tmp_path / "photo.tif", pixels, rowsperstrip=10, photometric="rgb", compression="zlib")
    size = pixels.nbytes
    del pixels
    tracemalloc.start()
    try:
        with photo_on_disk(tmp_path / "photo.tif", tmp_path) as photo:
            reduce_photograph(photo.rgb, (75, 50))
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_damage_is_one_clear_error(tmp_path: Path, damage: Any) -> None:
    data = files.tiff(files.RGB8, photometric="rgb", rowsperstrip=4, compression="zlib").getvalue()
    data = {"cut": data[: len(data) // 2], "noise": data[:400] + bytes(len(data) - 400), "empty": b""}[damage]
    path = tmp_path / "photo.tif"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"photo\.tif"), photo_on_disk(path, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_the_pixel_limit_holds(tmp_path: Path) -> None:
    source = files.saved(files.RGB8, "JPEG")
    with pytest.raises(InputError, match="--max-pixels"), photo_on_disk(source, tmp_path, max_pixels=100):
        pass
