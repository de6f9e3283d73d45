"""Depth files: round trips, what other programs see, files by others, refusals, damage, atomic writes."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image
from typer.testing import CliRunner

import prv2cli
from prv2cli.cli import files
from prv2cli.depth_files import decode as depth_readers
from prv2cli.depth_files import encode as depth_writers
from prv2cli.depth_files.convert import convert
from prv2cli.depth_files.encode import depth_format
from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.metadata import DepthMetadata
from prv2cli.depth_files.read import read_depth
from prv2cli.depth_files.write import write_depth
from prv2cli.errors import InputError, MissingExtraError, OutputError, Prv2Error, UsageError
from prv2cli.files.atomic import TEMP_SUFFIX, atomic_write, check_output

ROOT = Path(prv2cli.__file__).parents[1]
META = DepthMetadata(
    model="lite",
    model_id="ab" * 32,
    focal_px=1234.5,
    tiling="512x512, overlap 0.25",
    precision="fp32",
    coarse="given",
    source_sha256="cd" * 32,
    extra={"seam": 0.01, "note": "Größe"},
)
PROVENANCE = ("model", "model_id", "focal_px", "tiling", "precision", "coarse", "source_sha256", "extra")
KINDS = [
    pytest.param("png", "uint16", id="png"),
    pytest.param("tif", "uint16", id="tif16"),
    pytest.param("tif", "float32", id="tif32"),
    pytest.param("npy", "float32", id="npy"),
    pytest.param("npz", "float32", id="npz"),
    pytest.param("exr", "float32", id="exr"),
]
SIZES = [(1, 1), (1, 7), (7, 1), (61, 83), (700, 211)]  # the last has more than one band of rows


def scene(height: int = 61, width: int = 83, seed: int = 0) -> np.ndarray:
    """0.1 to 90 metres with every kind of invalid value in it."""
    rng = np.random.default_rng(seed)
    depth = np.exp(rng.uniform(np.log(0.1), np.log(90), (height, width))).astype(np.float32)
    if depth.size > 100:
        depth.flat[:5] = [np.nan, np.inf, -np.inf, 0.0, -3.0]
        depth[10:20, 30:40] = np.nan
    return depth


def clean(depth: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)


def steps(depth: np.ndarray, scale: float) -> np.ndarray:
    """The 16-bit rule of the documentation, on its own."""
    valid = np.isfinite(depth) & (depth > 0)
    exact = np.where(valid, depth, 0).astype(np.float64) * scale
    return np.where(valid, np.clip(np.rint(exact), 1, 65535), 0).astype(np.uint16)


def encoded(fmt: str, dtype: Any = "uint16", depth: np.ndarray | None = None, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    write_depth(buffer, scene() if depth is None else depth, META, fmt=fmt, dtype=dtype, **kwargs)
    return buffer.getvalue()


def skip_without_codec(fmt: str) -> None:
    if fmt == "exr":
        pytest.importorskip("OpenEXR")


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which no test may leave a temporary file."""
    yield tmp_path
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(TEMP_SUFFIX)]


# --- round trips --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fmt", "dtype"), KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_round_trip(folder: Path, fmt: str, dtype: Any, size: tuple[int, int]) -> None:
    skip_without_codec(fmt)
    depth = scene(*size)
    path = folder / f"a.{fmt}"
    report = write_depth(path, depth, META, dtype=dtype)
    assert (report.path, report.bytes) == (path, path.stat().st_size)
    assert report.clipped == 0
    assert report.invalid == np.count_nonzero(np.isnan(clean(depth)))
    found = read_depth(path)
    assert found.values.dtype == np.float32
    integers = dtype == "uint16"
    if integers:
        assert same(found.values, clean(steps(depth, 256) / np.float64(256)))
        assert np.nanmax(np.abs(found.values - clean(depth))) <= 0.5 / 256 + 1e-5
    else:
        assert same(found.values, clean(depth))
    assert found.metadata.scale == (256 if integers else 1)
    assert np.isnan(found.metadata.invalid) != integers
    assert (found.metadata.unit, found.metadata.kind) == ("metre", "depth")
    assert all(getattr(found.metadata, key) == getattr(META, key) for key in PROVENANCE)
    assert (found.metadata.software, found.metadata.version) == ("prv2cli", prv2cli.__version__)


@pytest.mark.parametrize(("fmt", "dtype"), KINDS)
def test_stream_gets_the_bytes_of_the_file(folder: Path, fmt: str, dtype: Any) -> None:
    skip_without_codec(fmt)
    path = folder / f"a.{fmt}"
    report = write_depth(path, scene(), META, dtype=dtype)
    read, write = os.pipe()  # cannot seek
    with os.fdopen(read, "rb") as reader:
        with os.fdopen(write, "wb", buffering=0) as pipe:
            streamed = write_depth(pipe, scene(), META, fmt=fmt, dtype=dtype)
        data = reader.read()
    assert (streamed.path, streamed.bytes) == (None, report.bytes)
    if fmt != "exr":
        assert data == path.read_bytes()
    assert same(read_depth(io.BytesIO(data)).values, read_depth(path).values)


@pytest.mark.parametrize("scale", [256.0, 1000.0, 5000.0, 0.37, 7e4])
def test_sixteen_bits(scale: float) -> None:
    rng = np.random.default_rng(1)
    depth = rng.uniform(0, 1.3 * 65535 / scale, (50, 70)).astype(np.float32)
    depth[0, :4] = [1e-6 / scale, 0.4 / scale, 65535 / scale, 3e38]
    buffer = io.BytesIO()
    report = write_depth(buffer, depth, META, fmt="png", scale=scale)
    stored = np.asarray(Image.open(buffer))
    assert np.array_equal(stored, steps(depth, scale))
    assert (stored[0, 0], stored[0, 1], stored[0, 3]) == (1, 1, 65535)  # a valid depth is never 0
    assert report.clipped == np.count_nonzero(np.rint(depth.astype(np.float64) * scale) > 65535) > 300
    assert report.invalid == 0
    assert read_depth(io.BytesIO(buffer.getvalue())).metadata.clipped == report.clipped


def test_number_of_coarsely_rounded_pixels() -> None:
    depth = np.array([[0.1, 0.2, 1.0, np.nan]], np.float32)
    assert write_depth(io.BytesIO(), depth, META).rounded == 1  # 0.1 m is 26 steps, 0.2 m is 51
    assert write_depth(io.BytesIO(), depth, META, scale=5000).rounded == 0


@pytest.mark.parametrize("layout", ["F", "strided", "float64", "float16", ">f4"])
def test_any_layout_of_the_array(layout: str) -> None:
    depth = np.round(scene(), 2)
    other = {
        "F": np.asfortranarray(depth),
        "strided": np.repeat(depth, 2, axis=1)[:, ::2],
        "float64": depth.astype(np.float64),
        "float16": depth.astype(np.float16),
        ">f4": depth.astype(">f4"),
    }[layout]
    for fmt, dtype in (("png", "uint16"), ("tif", "uint16"), ("tif", "float32"), ("npy", "float32")):
        assert encoded(fmt, dtype, other) == encoded(fmt, dtype, other.astype(np.float32).copy())


def test_inverse_is_one_over_x() -> None:
    depth = scene()
    found = read_depth(io.BytesIO(encoded("npy", inverse=True)))
    assert (found.metadata.unit, found.metadata.kind) == ("1/metre", "inverse")
    assert same(found.values, (1 / clean(depth).astype(np.float64)).astype(np.float32))
    disparity = replace(META, unit="1/relative", kind="inverse")
    buffer = io.BytesIO()
    write_depth(buffer, depth, disparity, fmt="npy", inverse=True)  # kept: it is inverse already
    found = read_depth(io.BytesIO(buffer.getvalue()))
    assert (found.metadata.unit, same(found.values, clean(depth))) == ("1/relative", True)
    buffer = io.BytesIO()
    write_depth(buffer, depth, disparity, fmt="npy")
    assert read_depth(io.BytesIO(buffer.getvalue())).metadata.unit == "relative"


# --- other programs -----------------------------------------------------------------------------------------


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
        monkeypatch.setattr(depth_writers, "_BIGTIFF_BYTES", 1000)
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


# --- files by others ----------------------------------------------------------------------------------------


def by_others(folder: Path) -> dict[str, tuple[Path, float, np.ndarray]]:
    """name -> (file, the scale that it needs, the depth in metres), made without the code under test."""
    metres = np.array([[0, 1.5, 2.25], [80, 3, 0.5]])
    valid = np.where(metres > 0, metres, np.nan).astype(np.float32)
    Image.fromarray((metres * 256).astype(np.uint16)).save(folder / "kitti.png")
    Image.fromarray((metres * 500).astype(np.uint16)).save(folder / "mm.png")
    tifffile.imwrite(folder / "int32.tif", (metres * 1000).astype(np.int32))
    tifffile.imwrite(folder / "f64.tif", metres, byteorder=">")
    Image.fromarray((metres * 256).astype(np.uint16)).save(folder / "lzw.tif", compression="tiff_lzw")
    float_predictor: dict[str, Any] = {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 3}}
    Image.fromarray(metres.astype(np.float32)).save(folder / "predictor3.tif", **float_predictor)
    np.savez_compressed(folder / "depthpro.npz", depth=metres.astype(np.float32), focallength_px=1000.0)
    np.savez(folder / "single.npz", anything=np.asfortranarray(metres), scalar=3)
    np.save(folder / "f16.npy", (metres * 10).astype(">f2"))
    np.save(folder / "fortran.npy", np.asfortranarray(metres))
    little = b"Pf\n3 2\n-1.0\n" + struct.pack("<6f", 80, 3, 0.5, np.inf, 1.5, 2.25)  # the lower row first
    big = b"Pf 3 2\n1\n" + struct.pack(">6f", 80, 3, 0.5, np.inf, 1.5, 2.25)
    (folder / "middlebury.pfm").write_bytes(little)
    (folder / "big.pfm").write_bytes(big)
    scales = {"kitti.png": 256, "mm.png": 500, "int32.tif": 1000, "lzw.tif": 256, "f16.npy": 10}
    return {p.name: (p, float(scales.get(p.name, 1)), valid) for p in folder.iterdir()}


def test_files_by_others_with_their_scale(folder: Path) -> None:
    cases = by_others(folder)
    assert len(cases) == 12
    for name, (path, scale, expected) in cases.items():
        found = read_depth(path, scale=scale)
        np.testing.assert_allclose(found.values, expected, rtol=1e-3, err_msg=name)
        assert (found.metadata.unit, found.metadata.software) == ("metre", "unknown")
        info = depth_info(path)
        assert (info["unit"], info["invalid"], info["width"]) == ("unknown", 1, 3)
        assert depth_info(path, scale=scale)["max"] == pytest.approx(80, rel=1e-3)
        with pytest.raises(UsageError, match=rf"{name} does not say its unit.*--coarse-scale"):
            read_depth(path, scale_flag="--coarse-scale")


def test_the_refusal_gives_the_usual_answers(folder: Path) -> None:
    cases = by_others(folder)
    with pytest.raises(UsageError, match=r"--scale 256 \(KITTI\).*1000 \(milli.*5000 \(TUM\)") as caught:
        read_depth(cases["kitti.png"][0], relative_flag="--relative")
    assert "--relative" in str(caught.value)
    with pytest.raises(UsageError, match="--scale 1 if the numbers are metres"):
        read_depth(cases["fortran.npy"][0])
    with pytest.raises(UsageError, match=r"1/metre.*focal"):
        read_depth(cases["middlebury.pfm"][0], kind="inverse")
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"--coarse-scale .* positive"):
            read_depth(cases["kitti.png"][0], scale=scale, scale_flag="--coarse-scale")


def test_disparity_and_relative_maps(folder: Path) -> None:
    path = by_others(folder)["middlebury.pfm"][0]
    disparity = read_depth(path, scale=100, kind="inverse")
    assert (disparity.metadata.unit, disparity.metadata.kind) == ("1/metre", "inverse")
    assert np.nanmax(disparity.values) == np.float32(0.8)
    relative = read_depth(path, kind="inverse", relative=True)
    assert (relative.metadata.unit, np.nanmax(relative.values)) == ("1/relative", 80)


def test_explicit_arguments_win_over_the_metadata() -> None:
    data = encoded("npy")
    assert same(read_depth(io.BytesIO(data), scale=2).values, clean(scene()) / 2)
    assert read_depth(io.BytesIO(data), kind="inverse").metadata.unit == "1/metre"
    assert read_depth(io.BytesIO(data), relative=True).metadata.unit == "relative"


def test_exr_with_an_openexr_that_is_too_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openexr = pytest.importorskip("OpenEXR")
    monkeypatch.setattr(openexr, "__version__", "3.4.9")
    with pytest.raises(MissingExtraError, match=r"prv2cli\[exr\]"):
        write_depth(folder / "a.exr", scene(), META)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("fmt", "dtype"), KINDS)
def test_writing_is_ended_from_within(folder: Path, fmt: str, dtype: Any) -> None:
    skip_without_codec(fmt)
    bands = 0

    def enough() -> None:
        nonlocal bands
        bands += 1
        if bands == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_depth(folder / f"a.{fmt}", scene(700, 211), META, dtype=dtype, on_band=enough)
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


# --- refusals -----------------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def picture(mode: str, fmt: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 6), 3 if mode in ("L", "P") else None).save(buffer, fmt)
    return buffer.getvalue()


def tiff(array: np.ndarray, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **kwargs)
    return buffer.getvalue()


def png_bomb() -> bytes:
    """32,000 x 32,000 pixels in some 60 bytes."""
    buffer = io.BytesIO(depth_writers.PNG_SIGNATURE)
    buffer.seek(0, io.SEEK_END)
    depth_writers._png_chunk(buffer, b"IHDR", struct.pack(">IIBBBBB", 32000, 32000, 16, 0, 0, 0, 0))
    depth_writers._png_chunk(buffer, b"IDAT", b"\x78\x9c\x03\x00\x00\x00\x00\x01")
    depth_writers._png_chunk(buffer, b"IEND", b"")
    return buffer.getvalue()


def npz_bomb() -> bytes:
    """A header that promises 30,000 x 30,000 doubles, and an archive index that agrees, in 200 bytes."""
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (30000, 30000)}
    np.lib.format.write_array_header_1_0(header, about)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("depth.npy", header.getvalue())
    return buffer.getvalue().replace(
        struct.pack("<I", len(header.getvalue())), struct.pack("<I", 4_000_000_000)
    )


TEN = np.full((4, 5), 10.0, np.float32)
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"depth: 3 metres", "not a depth file"),
    "jpeg": (picture("RGB", "JPEG"), "8-bit picture"),
    "8-bit png": (picture("L", "PNG"), "8-bit"),
    "palette png": (picture("P", "PNG"), "8-bit"),
    "rgb png": (picture("RGB", "PNG"), "colour"),
    "rgb tiff": (tiff(np.zeros((4, 5, 3), np.uint16), photometric="rgb"), "colour"),
    "8-bit tiff": (tiff(np.zeros((4, 5), np.uint8)), "8-bit"),
    "two pages": (tiff(np.ones((2, 4, 5), np.float32), photometric="minisblack"), "2 pages"),
    "8-bit npy": (npy(np.ones((4, 5), np.uint8)), "8-bit"),
    "bool npy": (npy(np.ones((4, 5), bool)), "8-bit"),
    "complex npy": (npy(np.ones((4, 5), complex)), "complex"),
    "3-D npy": (npy(np.ones((1, 4, 5))), r"shape \(1, 4, 5\)"),
    "1-D npy": (npy(np.ones(5)), "2-D"),
    "rgb npy": (npy(np.ones((4, 5, 3))), "colour"),
    "object npy": (npy(np.array([[{}]], object)), "object"),
    "object npz": (npz(depth=np.array([[{}]], object)), "object"),
    "no pixels": (npy(np.ones((0, 5))), "no pixels"),
    "two maps": (npz(a=TEN, b=TEN), "not exactly one 2-D"),
    "no map": (npz(a=np.ones(3)), "not exactly one 2-D"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "not exactly one 2-D"),
    "NaN only": (npy(TEN * np.nan), "no pixel holds a valid depth"),
    "zeros only": (npy(TEN * 0), "no pixel holds a valid depth"),
    "truncated npy": (npy(TEN)[:-1], "truncated"),
    "npy bomb": (npy(TEN).replace(b"(4, 5), }    ", b"(40000, 999) }"), "truncated|too small"),
    "npy of too many pixels": (npy(TEN).replace(b"(4, 5), }      ", b"(90000, 90000) }"), "more than"),
    "npz bomb": (npz_bomb(), "truncated"),
    "png bomb": (png_bomb(), "truncated"),
    "truncated pfm": (b"Pf\n3 2\n-1\n" + bytes(23), "truncated"),
    "colour pfm": (b"PF\n3 2\n-1\n" + bytes(72), "colour"),
    "damaged pfm": (b"Pf\nthree two\n", "PFM header"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_that_names_the_file(folder: Path, name: str) -> None:
    data, reason = BAD[name]
    path = folder / "bad.file"
    path.write_bytes(data)
    with pytest.raises(InputError, match=reason) as caught:
        read_depth(path, scale=1)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_paths_that_are_no_files(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_depth(folder / "none.png")
    with pytest.raises(InputError, match="is a folder"):
        read_depth(folder)
    with pytest.raises(InputError, match="not a file name"):
        read_depth(Path("a\0b"))


LIES: list[tuple[dict[str, Any], str]] = [
    ({"scale": 0}, "scale"),
    ({"scale": -256}, "scale"),
    ({"scale": "256"}, "scale"),
    ({"scale": 1e300}, "scale"),
    ({"scale": True}, "scale"),
    ({"unit": "feet"}, "unit"),
    ({"unit": None}, "unit"),
    ({"unit": "1/metre"}, "kind"),
    ({"kind": "disparity"}, "kind"),
    ({"invalid": 7}, "invalid"),
    ({"clipped": -1}, "clipped"),
    ({"focal_px": 0}, "focal_px"),
    ({"model": 3}, "model"),
    ({"extra": []}, "extra"),
    ({"software": "other"}, "software"),
]


@pytest.mark.parametrize(("lie", "reason"), LIES, ids=lambda value: str(value))
def test_metadata_that_lies(lie: dict[str, Any], reason: str) -> None:
    honest = json.loads(META.to_json())
    assert DepthMetadata.from_json(json.dumps(honest)).extra == META.extra
    with pytest.raises(InputError, match=f"metadata is wrong.*{reason}"):
        DepthMetadata.from_json(json.dumps({**honest, **lie}))
    text = json.dumps({**honest, **lie})
    data = npy(TEN) + text.encode() + struct.pack("<Q", len(text)) + depth_writers.NPY_MAGIC
    with pytest.raises(InputError, match=f"metadata is wrong.*{reason}"):
        read_depth(io.BytesIO(data))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"scale": NaN}', "[" * 100_000, '{"scale": 1e999}', "{}"]
)
def test_metadata_that_is_no_metadata(text: str) -> None:
    with pytest.raises(InputError, match="metadata is wrong"):
        DepthMetadata.from_json(text)


def test_keys_of_a_later_version_are_kept() -> None:
    later = DepthMetadata.from_json(json.dumps({**json.loads(META.to_json()), "camera": "a"}))
    assert later.extra == {**META.extra, "camera": "a"}


@pytest.mark.parametrize(("fmt", "dtype"), [*KINDS, pytest.param("pfm", "float32", id="pfm")])
def test_damage_never_escapes_as_another_exception(folder: Path, fmt: str, dtype: Any) -> None:
    skip_without_codec(fmt)
    pfm = b"Pf\n83 61\n-1.0\n" + clean(scene()).tobytes()
    data = pfm if fmt == "pfm" else encoded(fmt, dtype)
    rng = np.random.default_rng(7)
    path = folder / f"a.{fmt}"
    for trial in range(100):
        damaged = bytearray(data)
        if trial % 3 == 0:
            del damaged[rng.integers(len(data)) :]
        else:
            reach = len(data) if trial % 3 == 1 else min(len(data), 600)  # headers are where it hurts
            for place in rng.integers(reach, size=rng.integers(1, 4)):
                damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = read_depth(path, scale=1)
        except Prv2Error as error:
            assert len(str(error).splitlines()) == 1
            assert str(path) in str(error)
        else:
            assert found.values.dtype == np.float32
            assert trial % 3 or bytes(damaged) == data or fmt in ("npz", "npy")  # a cut is noticed


@pytest.mark.parametrize("fmt", ["png", "npz"])
def test_a_checksum_is_looked_at(fmt: str) -> None:
    data = bytearray(encoded(fmt))
    data[len(data) // 2] ^= 4
    with pytest.raises(InputError, match="damaged"):
        read_depth(io.BytesIO(data))


def test_wrong_calls() -> None:
    with pytest.raises(UsageError, match=r"a\.bmp.*\.png, \.tif, \.tiff, \.npy, \.npz, \.exr"):
        depth_format(Path("a.bmp"))
    with pytest.raises(UsageError, match=r"without extension.*--format"):
        depth_format(Path("depth"))
    with pytest.raises(UsageError, match="--format bmp"):
        depth_format(Path("a.png"), "bmp")
    assert depth_format(Path("a.TIFF")) == depth_format(Path("a.png"), "tif") == "tiff"
    assert depth_format(Path("-")) == "png"
    with pytest.raises(UsageError, match="--dtype float32: a PNG"):
        encoded("png", "float32")
    with pytest.raises(UsageError, match="--depth-scale 0"):
        encoded("png", scale=0)
    for depth in (np.ones(3), np.ones((0, 3)), np.ones((1, 2, 3)), np.ones((2, 2), bool)):
        with pytest.raises(UsageError, match="2-D array"):
            encoded("png", depth=depth)


# --- places to write to -------------------------------------------------------------------------------------


def test_check_output(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_output(folder / "new.png")
    check_output(Path("/dev/null"))
    with pytest.raises(OutputError, match="mkdir -p"):
        check_output(folder / "none" / "a.png")
    with pytest.raises(OutputError, match="is a folder"):
        check_output(folder)
    (folder / "file").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_output(folder / "file" / "a.png")
    with pytest.raises(OutputError):
        check_output(Path("a\0b"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission"):
        check_output(folder / "a.png")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError("bug")])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_in_the_middle_leaves_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, existing: bool
) -> None:
    path = folder / "a.png"
    if existing:
        path.write_bytes(b"old")

    def encode(file: Any, rows: Any, text: str) -> None:
        file.write(b"half a file")
        file.flush()
        (temp,) = (p for p in folder.iterdir() if p != path)
        assert temp.name.startswith(".") and temp.name.endswith(TEMP_SUFFIX) and str(os.getpid()) in temp.name
        raise failure

    monkeypatch.setitem(depth_writers.ENCODERS, "png", encode)
    wanted = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(wanted, match="no space left" if wanted is OutputError else None):
        write_depth(path, scene(), META)
    assert [p.name for p in folder.iterdir()] == (["a.png"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


@pytest.mark.parametrize(("fmt", "dtype"), KINDS)
def test_a_disk_that_takes_only_20_kB(folder: Path, fmt: str, dtype: Any) -> None:
    resource = pytest.importorskip("resource")
    skip_without_codec(fmt)
    path = folder / f"a.{fmt}"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OutputError, match=rf"a\.{fmt}: "):
            write_depth(path, scene(200, 200), META, dtype=dtype)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_dev_full() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OutputError, match="/dev/full: no space left"),
    ):
        write_depth(full, scene(), META, fmt="tif")
    with pytest.raises(OutputError, match="/dev/full: no space left"):
        write_depth(Path("/dev/full"), scene(), META, fmt="npy")


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_modes_and_links(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        write_depth(folder / "new.png", scene(), META)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "new.png").stat().st_mode) == 0o640
    (folder / "kept.png").touch(0o600)
    (folder / "link.png").symlink_to("kept.png")
    (folder / "dangling.png").symlink_to("made.png")
    write_depth(folder / "link.png", scene(), META)
    write_depth(folder / "dangling.png", scene(), META)
    assert stat.S_IMODE((folder / "kept.png").stat().st_mode) == 0o600
    for name in ("link.png", "dangling.png"):
        assert (folder / name).is_symlink()
        read_depth(folder / name)


def test_a_long_name(folder: Path) -> None:
    write_depth(folder / ("é" * 125 + ".png"), scene(), META)  # 254 bytes


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *arguments]


def test_dev_stdout() -> None:
    code = """
import numpy as np; from pathlib import Path
from prv2cli.depth_files.read import DepthMetadata, write_depth
write_depth(Path("/dev/stdout"), np.ones((3, 4), np.float32), DepthMetadata(), fmt="tif")
"""
    done = subprocess.run(python(code), capture_output=True, check=True)
    assert np.all(read_depth(io.BytesIO(done.stdout)).values == 1)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    code = """
import numpy as np; from pathlib import Path
from prv2cli.depth_files.read import DepthMetadata, write_depth
path = Path(sys.argv[1])
while True:
    for value in (1, 2):
        write_depth(path, np.full((500, 500), value, np.float32), DepthMetadata())
"""
    path = tmp_path / "a.npy"
    for delay in (0.003, 0.017):
        path.unlink(missing_ok=True)
        process = subprocess.Popen(python(code, str(path)))
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        values = read_depth(path).values
        assert values.shape == (500, 500)
        assert values.min() == values.max()
    assert all(p == path or p.name.startswith(".") for p in tmp_path.iterdir())


def test_atomic_write_of_anything(folder: Path) -> None:
    with atomic_write(folder / "a.txt") as file:
        file.write(b"text")
    assert (folder / "a.txt").read_bytes() == b"text"


# --- info and convert ---------------------------------------------------------------------------------------


def test_info(folder: Path) -> None:
    path = folder / "a.tif"
    write_depth(path, scene(), META, scale=2000)
    info = json.loads(json.dumps(depth_info(path), allow_nan=False))
    stored = steps(scene(), 2000)
    valid = stored[stored > 0] / 2000
    assert (info["format"], info["dtype"], info["width"], info["height"]) == ("tiff", "uint16", 83, 61)
    assert (info["unit"], info["kind"], info["scale"], info["model"]) == ("metre", "depth", 2000, "lite")
    assert info["invalid"] == np.count_nonzero(stored == 0)
    assert info["clipped"] == np.count_nonzero(scene()[np.isfinite(scene())] * 2000 > 65535.5)
    assert (info["min"], info["max"]) == pytest.approx((valid.min(), valid.max()))
    assert info["median"] == pytest.approx(np.median(valid))
    assert depth_info(io.BytesIO(npy(TEN * np.nan)))["median"] is None


@pytest.mark.parametrize("middle", ["tif", "npy", "npz", "exr"])
@pytest.mark.parametrize("scale", [256.0, 1000.0])
def test_convert_keeps_every_16_bit_number(folder: Path, middle: str, scale: float) -> None:
    skip_without_codec(middle)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(every).save(folder / "a.png")
    convert(folder / "a.png", folder / f"b.{middle}", scale=scale, dtype="float32")
    report = convert(folder / f"b.{middle}", folder / "c.png", out_scale=scale)
    assert (report.clipped, report.invalid) == (0, 1)
    assert np.array_equal(np.asarray(Image.open(folder / "c.png")), every)


@pytest.mark.parametrize(("fmt", "dtype"), KINDS[2:])
def test_convert_of_floats(folder: Path, fmt: str, dtype: Any) -> None:
    skip_without_codec(fmt)
    write_depth(folder / "a.npy", scene(), META)
    convert(folder / "a.npy", folder / f"b.{fmt}", dtype=dtype)
    there = read_depth(folder / f"b.{fmt}")
    assert there.values.tobytes() == clean(scene()).tobytes()
    assert all(getattr(there.metadata, key) == getattr(META, key) for key in PROVENANCE)
    convert(folder / f"b.{fmt}", folder / f"c.{fmt}", dtype=dtype, inverse=True)
    assert read_depth(folder / f"c.{fmt}").metadata.unit == "1/metre"
    convert(folder / f"c.{fmt}", folder / f"d.{fmt}", dtype=dtype, inverse=None)
    assert read_depth(folder / f"d.{fmt}").metadata.kind == "inverse"
    convert(folder / f"d.{fmt}", folder / f"d.{fmt}", dtype=dtype, inverse=False)  # onto itself
    np.testing.assert_allclose(read_depth(folder / f"d.{fmt}").values, clean(scene()), rtol=2e-7)


def test_convert_remembers_what_was_clipped(folder: Path) -> None:
    depth = np.array([[1, 300, 400]], np.float32)
    assert write_depth(folder / "a.png", depth, META).clipped == 2
    assert convert(folder / "a.png", folder / "b.npy").clipped == 0
    assert read_depth(folder / "b.npy").metadata.clipped == 2
    assert convert(folder / "b.npy", folder / "c.png", out_scale=1000).clipped == 2
    assert read_depth(folder / "c.png").metadata.clipped == 2


app = typer.Typer()
app.command()(files.info)
app.command()(files.convert)


def run(*arguments: object, stdin: bytes = b"") -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def test_command_info(folder: Path) -> None:
    path = folder / "a[b].png"
    write_depth(path, scene(), META)
    assert json.loads(run("info", path, "--json").stdout) == depth_info(path)
    table = run("info", path)
    assert table.exit_code == 0
    assert re.search(r"unit +metre", table.stdout) and re.search(r"size +83 x 61", table.stdout)
    assert "a[b].png" in table.stdout.replace("\n", "")
    assert json.loads(run("info", "-", "--json", stdin=path.read_bytes()).stdout)["scale"] == 256
    Image.fromarray(np.full((3, 4), 1000, np.uint16)).save(folder / "mm.png")
    assert "unknown" in run("info", folder / "mm.png").stdout
    known = json.loads(run("info", folder / "mm.png", "--scale", 1000, "--kind", "inverse", "--json").stdout)
    assert (known["max"], known["unit"]) == (1, "1/metre")


def test_command_convert(folder: Path) -> None:
    Image.fromarray(np.array([[1000, 2000, 65535, 0]], np.uint16)).save(folder / "mm.png")
    refused = run("convert", folder / "mm.png", folder / "m.npy")
    assert isinstance(refused.exception, UsageError)
    assert "--scale" in str(refused.exception) and "--relative" in str(refused.exception)
    done = run("convert", folder / "mm.png", folder / "m.tif", "--scale", 1000, "--dtype", "float32")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert same(tifffile.imread(folder / "m.tif"), np.array([[1, 2, 65.535, np.nan]], np.float32))
    clipped = run("convert", folder / "m.tif", folder / "c.png", "--depth-scale", 5000)
    assert (clipped.exit_code, clipped.stdout) == (0, "")
    assert "1 pixels" in clipped.stderr and "--depth-scale" in clipped.stderr
    rounded = run("convert", folder / "m.tif", folder / "c.png", "--inverse")
    assert "1 pixels may be off" in rounded.stderr
    kept = run("convert", folder / "m.tif", folder / "c.png", "--no-overwrite")
    assert isinstance(kept.exception, OutputError) and "c.png exists" in str(kept.exception)
    relative = run("convert", folder / "mm.png", folder / "r.npy", "--relative", "--kind", "inverse")
    assert (relative.exit_code, depth_info(folder / "r.npy")["unit"]) == (0, "1/relative")
    piped = run("convert", "-", "-", "--format", "npy", stdin=(folder / "m.tif").read_bytes())
    assert same(np.load(io.BytesIO(piped.stdout_bytes)), tifffile.imread(folder / "m.tif"))


def test_no_torch_for_depth_files() -> None:
    code = """
import prv2cli.depth_files.read, prv2cli.depth_files.preview, prv2cli.cli.files
assert not {"torch", "timm", "tifffile", "PIL", "OpenEXR"} & set(sys.modules)
"""
    subprocess.run(python(code), check=True)


def test_the_size_limit_holds_what_the_program_promises() -> None:
    assert depth_readers.MAX_PIXELS >= 30_000 * 20_000
