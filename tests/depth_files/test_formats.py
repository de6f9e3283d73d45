"""Each format as other programs see it, and as they write it."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from depth_maps import (
    META,
    clean,
    same,
    scene,
    steps,
)
from image_files import chunk, png16
from PIL import Image

from prv2cli.depth_files.formats import tiff as tiff_format
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError, MissingExtraError


def test_png_in_pillow_and_opencv(folder: Path) -> None:
    path = folder / "a.png"
    write_depth(path, scene(), META, scale=1000)
    with Image.open(path) as image:
        image.load()
        assert np.array_equal(np.asarray(image), steps(scene(), 1000))
        assert json.loads(image.info["prv2"])["scale"] == 1000
    cv2 = pytest.importorskip("cv2")
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), steps(scene(), 1000))


@pytest.mark.parametrize("big", [False, True], ids=["classic", "BigTIFF"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("size", [(61, 83), (700, 211)], ids=str)
def test_tiff_in_tifffile_pillow_and_opencv(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, big: bool, size: tuple[int, int]
) -> None:
    if big:
        monkeypatch.setattr(tiff_format, "_BIGTIFF_BYTES", 1000)
    depth, path = scene(*size), folder / "a.tif"
    write_depth(path, depth, META, dtype=dtype)
    expected = steps(depth, 256) if dtype == "uint16" else clean(depth)
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        assert tiff.is_bigtiff == big
        assert (page.compression, page.predictor) == (8, 2)
        assert (page.dtype, same(page.asarray(), expected)) == (expected.dtype, True)
        assert json.loads(page.description)["model"] == "lite"
    with Image.open(path) as image:
        assert same(np.asarray(image), expected)
    cv2 = pytest.importorskip("cv2")
    assert same(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), expected)


def test_a_grey_png_of_colours_is_clear_where_it_says_so(folder: Path) -> None:
    """By its alpha channel, or by a colour that means clear; interlaced, too."""
    levels = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100 + 256
    alpha = np.full_like(levels, 65535)
    alpha[3:5, 7] = 0
    files = {
        "alpha.png": png16(np.dstack([*[levels] * 3, alpha]), interlaced=True),
        "key.png": png16(
            np.dstack([levels] * 3), extra=chunk(b"tRNS", struct.pack(">3H", *[levels[3, 7]] * 3))
        ),
        "colour.png": png16(np.dstack([levels] * 3), extra=chunk(b"tRNS", struct.pack(">3H", 256, 256, 356))),
    }
    for name, clear in (("alpha.png", alpha == 0), ("key.png", levels == levels[3, 7]), ("colour.png", None)):
        (folder / name).write_bytes(files[name].getvalue())
        expected = levels / 1000 if clear is None else np.where(clear, np.nan, levels / 1000)
        np.testing.assert_allclose(read_depth(folder / name, scale=1000).values, expected, rtol=1e-6)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_grey_tiff_of_colours_is_one_channel(
    folder: Path, dtype: str, compression: str | None, planar: str
) -> None:
    grey = (np.arange(20 * 30).reshape(20, 30) + 256).astype(dtype)
    if dtype == "float32":
        grey[0, 0] = np.nan
    alpha = np.ones_like(grey)
    alpha[3:5, 7] = 0

    def save(*channels: np.ndarray) -> Path:
        pixels = np.stack(channels, 0 if planar == "separate" else -1)
        extra = ["unassalpha"] if len(channels) == 4 else None
        path = folder / "a.tif"
        tifffile.imwrite(
            path, pixels, photometric="rgb", planarconfig=planar, compression=compression, extrasamples=extra
        )
        return path

    found = read_depth(save(grey, grey, grey), scale=1).values
    np.testing.assert_allclose(found, grey)
    found = read_depth(save(grey, grey, grey, alpha), scale=1).values
    np.testing.assert_allclose(found, np.where(alpha == 0, np.nan, grey))
    other = grey.copy()
    other[5, 5] += 1
    with pytest.raises(InputError, match=r"a\.tif: a colour image, not depth"):
        read_depth(save(grey, other, grey), scale=1)


def test_npy_and_npz_in_numpy(folder: Path) -> None:
    write_depth(folder / "a.npy", scene(), META)
    for mode in (None, "r"):
        assert same(np.load(folder / "a.npy", mmap_mode=mode, allow_pickle=False), clean(scene()))
    assert same(np.load(io.BytesIO((folder / "a.npy").read_bytes())), clean(scene()))
    write_depth(folder / "a.npz", scene(), META)
    with np.load(folder / "a.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["depth", "metadata"]
        assert same(arrays["depth"], clean(scene()))
        assert json.loads(str(arrays["metadata"]))["unit"] == "metre"


def test_exr_in_openexr(folder: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    write_depth(folder / "a.exr", scene(), META)
    with openexr.File(str(folder / "a.exr"), separate_channels=True) as exr:
        assert list(exr.channels()) == ["Z"]
        assert exr.channels()["Z"].pixels.dtype == np.float32
        assert same(exr.channels()["Z"].pixels, clean(scene()))
        assert json.loads(exr.header()["prv2"])["invalid"] == "NaN"


def test_exr_without_openexr(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    (folder / "b.exr").write_bytes(b"\x76\x2f\x31\x01 and more")
    with pytest.raises(MissingExtraError, match=r"prv2cli\[exr\]"):
        write_depth(folder / "a.exr", scene(), META)
    with pytest.raises(MissingExtraError, match=r"prv2cli\[exr\]"):
        read_depth(folder / "b.exr")
    assert not (folder / "a.exr").exists()


def test_exr_with_an_openexr_that_is_too_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openexr = pytest.importorskip("OpenEXR")
    monkeypatch.setattr(openexr, "__version__", "3.4.9")
    with pytest.raises(MissingExtraError, match=r"prv2cli\[exr\]"):
        write_depth(folder / "a.exr", scene(), META)
    assert not list(folder.iterdir())


def test_exr_by_others(folder: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    z = np.full((4, 5), 2, np.float16)

    def make(**channels: np.ndarray) -> Path:
        header = {"compression": openexr.PIZ_COMPRESSION, "type": openexr.scanlineimage}
        openexr.File(header, channels).write(str(folder / "x.exr"))
        return folder / "x.exr"

    assert np.all(read_depth(make(V=z), scale=1).values == 2)
    assert np.all(read_depth(make(**{"a.Z": z, "a.R": 3 * z}), scale=1).values == 2)
    with pytest.raises(InputError, match=r"x\.exr: channels .*one called Z"):
        read_depth(make(A=z, B=z), scale=1)
