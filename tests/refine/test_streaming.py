"""What is done in bands on disk has the same values as what is done in memory, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import image_files as files
import numpy as np
import pytest
import tifffile
from PIL import Image

from prv2cli.depth_files.encoding import Encoding, write
from prv2cli.depth_files.metadata import DepthMetadata
from prv2cli.depth_files.preview import write_preview
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import DiskFullError, InputError, UsageError
from prv2cli.files import disk_array as spooled
from prv2cli.files.disk_array import DiskArray
from prv2cli.photo import bands as image_bands
from prv2cli.photo.formats import tiff_bands
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import read_photo
from prv2cli.refine import estimate
from prv2cli.refine.streaming import BandBlender, refine_streamed, write_streamed
from prv2cli.resampling.area import reduce_photograph, shrink
from prv2cli.tiling.plan import Blender, plan_tiles

TILING: dict[str, Any] = {"tile": 64, "overlap": 0.2}


@pytest.fixture(autouse=True)
def small_bands(monkeypatch):
    """Small pictures go through many bands, too."""
    monkeypatch.setattr(spooled, "BAND_PIXELS", 5000)
    monkeypatch.setattr(image_bands, "_BAND_PIXELS", 700)
    monkeypatch.setattr(image_bands, "_TURNED_ROWS", 5)
    monkeypatch.setattr(tiff_bands, "RUN_PIXELS", 8 * files.W)


def spool(values: np.ndarray, folder: Path) -> DiskArray:
    array = DiskArray(values.shape, values.dtype, folder)
    array[:] = values
    return array


# --- arrays on disk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_slices_are_those_of_an_array(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 250, (61, 83, 3)).astype(dtype)
    array = spool(values, tmp_path)
    for key in [
        np.s_[:],
        np.s_[3:9],
        np.s_[-4:],
        np.s_[50:500],
        np.s_[7:7],
        np.s_[2:40, 5:60],
        np.s_[::3, 1::7],
        np.s_[:, 80:99],
        np.s_[4:6, 9:9],
    ]:
        assert np.array_equal(array[key], values[key]), key
    assert (array.shape, array.size, array.ndim, array.nbytes) == (
        values.shape,
        values.size,
        values.ndim,
        values.nbytes,
    )
    assert (array.min(), array.max()) == (values.min(), values.max())
    array[10:20, 30:33] = values[20:30, 1:4]
    values[10:20, 30:33] = values[20:30, 1:4]
    assert np.array_equal(array[:], values)
    for axis in (0, 1):
        assert np.array_equal(np.take(array, np.arange(8, 21), axis=axis), values.take(range(8, 21), axis))


def test_it_never_becomes_one_array_by_accident(tmp_path):
    with pytest.raises(TypeError, match="slices"):
        np.asarray(spool(np.ones((3, 4)), tmp_path))


def test_a_full_disk_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**8))
    with pytest.raises(DiskFullError, match=r"7\.2 GB .* 0\.1 GB are free"):
        DiskArray((30_000, 20_000, 3), np.float32, tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_killed_process_leaves_nothing(tmp_path):
    code = (
        "import os, signal, sys, numpy as np; from pathlib import Path\n"
        "from prv2cli.files.disk_array import DiskArray\n"
        "a = DiskArray((900, 900), np.float32, Path(sys.argv[1])); a[:] = np.ones((900, 900))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert child.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(321, 212), (701, 90), (45, 333), (128, 128)])
def test_averages_equal_those_in_memory(tmp_path, dtype, shape):
    """Heights of 4 k + 1 have a row that lies exactly between two; in tall pictures Pillow might take columns first."""
    rgb = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, (*shape, 3)).astype(dtype)
    array = spool(rgb, tmp_path)
    height, width = shape
    for size in [(height // 2, width // 2), (37, 41), (1, 1), (height, 7), shape, (height + 9, width * 2)]:
        assert np.array_equal(shrink(rgb, size).numpy(), shrink(array, size).numpy()), size
        assert np.array_equal(reduce_photograph(rgb, size), reduce_photograph(array, size)), size


def test_a_large_reduced_photograph_stays_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("prv2cli.resampling.area._IN_MEMORY_BYTES", 1000)
    rgb = np.random.default_rng(1).integers(0, 256, (100, 80, 3)).astype(np.uint8)
    reduced = reduce_photograph(spool(rgb, tmp_path), (50, 40))
    assert isinstance(reduced, DiskArray)
    assert np.array_equal(reduced[:], reduce_photograph(rgb, (50, 40)))


# --- reading ----------------------------------------------------------------------------------------------


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
def test_tiffs_are_read_alike(tmp_path, pixels, layout):
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    assert_read_alike(files.tiff(pixels, photometric=photometric, **layout), tmp_path)


@pytest.mark.parametrize(
    "layout", [{"rowsperstrip": 4}, {"tile": (16, 16), "compression": "zlib"}, {}], ids=str
)
@pytest.mark.parametrize("pixels", [files.RGB8, files.RGB16], ids=["8", "16"])
def test_planes_are_read_alike(tmp_path, pixels, layout):
    planes = np.moveaxis(pixels, -1, 0)
    assert_read_alike(files.tiff(planes, photometric="rgb", planarconfig="separate", **layout), tmp_path)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("deep", [False, True])
def test_transparency_is_read_alike(tmp_path, kind, deep):
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
def test_other_compressions_are_read_alike(tmp_path, mode, compression):
    image = files.plain(np.tile(files.RGB8, (3, 1, 1))).convert(mode)
    source = files.saved(image, "TIFF", compression=compression, tiffinfo={278: 8})
    runs = set()
    real = tiff_bands._Runs.decoded

    def counted(self, index):
        runs.add(index)
        return real(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff_bands._Runs, "decoded", counted)
        assert_read_alike(source, tmp_path)
    assert len(runs) > 5  # it was not decoded whole


def test_float_tiffs_are_read_alike_and_refused_alike(tmp_path):
    values = (files.RGB16 / 65535).astype(np.float32)
    assert_read_alike(files.tiff(values, photometric="rgb", rowsperstrip=4), tmp_path)
    values[-1, 3] = 7
    with (
        pytest.raises(InputError, match=r"photo: its float values are not in 0\.\.1"),
        photo_on_disk(files.tiff(values, photometric="rgb", rowsperstrip=4), tmp_path, name="photo"),
    ):
        pass


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_alike(tmp_path, orientation):
    stored = np.ascontiguousarray(files.ORIENTED[orientation](files.RGB8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0xA405] = 35
    for format, options in [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 4, 274: orientation}}),
    ]:
        assert_read_alike(files.saved(stored, format, exif=exif, **options), tmp_path)
    deep = np.ascontiguousarray(files.ORIENTED[orientation](files.RGB16))
    tags = [(274, 3, 1, orientation, True)]
    source = files.tiff(deep, photometric="rgb", rowsperstrip=4, extratags=tags)
    assert_read_alike(source, tmp_path)
    with photo_on_disk(io.BytesIO(source.getvalue()), tmp_path) as photo:
        assert np.array_equal(photo.rgb[:], files.RGB16)


def test_a_deep_png_is_read_alike(tmp_path):
    assert_read_alike(files.png16(files.RGB16), tmp_path)


def test_strips_are_never_all_in_memory(tmp_path, monkeypatch):
    for module, name in ((spooled, "BAND_PIXELS"), (image_bands, "_BAND_PIXELS"), (tiff_bands, "RUN_PIXELS")):
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
def test_damage_is_one_clear_error(tmp_path, damage):
    data = files.tiff(files.RGB8, photometric="rgb", rowsperstrip=4, compression="zlib").getvalue()
    data = {"cut": data[: len(data) // 2], "noise": data[:400] + bytes(len(data) - 400), "empty": b""}[damage]
    path = tmp_path / "photo.tif"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"photo\.tif"), photo_on_disk(path, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_the_pixel_limit_holds(tmp_path):
    source = files.saved(files.RGB8, "JPEG")
    with pytest.raises(InputError, match="--max-pixels"), photo_on_disk(source, tmp_path, max_pixels=100):
        pass


# --- refining ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "tile"), [(300, 200, 64), (65, 500, 64), (40, 30, 64), (257, 130, 128)]
)
def test_bands_blend_as_the_whole_does(tmp_path, height, width, tile):
    plan = plan_tiles(height, width, (tile, tile), 0.3, 32)
    rng = np.random.default_rng(0)
    whole, out = Blender(plan), DiskArray((height, width), np.float32, tmp_path)
    bands = BandBlender(plan, out)
    for part in plan.tiles:
        values = rng.normal(size=(part.rows.length, part.columns.length)).astype(np.float32)
        whole.add(part, values)
        bands.add(part, values)
        assert len(bands._sum) <= tile
    bands.finish()
    assert np.array_equal(out[:], whole.result())


@pytest.fixture(scope="module")
def photo(photograph) -> np.ndarray:
    """(161, 130, 3): as much as three rows of small tiles need."""
    return np.ascontiguousarray(photograph[60:221, 50:180])


@pytest.fixture(scope="module")
def sources(tmp_path_factory, photo) -> Path:
    """The same photograph as a JPEG on its side and as a TIFF of 16 bits in strips."""
    folder = tmp_path_factory.mktemp("photos")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.ascontiguousarray(np.rot90(photo))
    Image.fromarray(turned).save(folder / "turned.jpg", quality=92, exif=exif)
    deep = photo.astype(np.uint16) * 257
    tifffile.imwrite(
        folder / "deep.tif", deep, photometric="rgb", rowsperstrip=16, compression="zlib", predictor=True
    )
    return folder


@pytest.fixture(scope="module")
def in_memory(refiner, sources):
    return {
        name: refiner.refine(read_photo(sources / name).rgb, **TILING) for name in ("turned.jpg", "deep.tif")
    }


@pytest.mark.parametrize("name", ["turned.jpg", "deep.tif"])
def test_the_depth_is_that_of_the_way_in_memory(refiner, sources, in_memory, tmp_path, name, monkeypatch):
    monkeypatch.setattr(
        "prv2cli.resampling.area._IN_MEMORY_BYTES", 1000
    )  # the pass at half size from disk, too
    whole = in_memory[name]
    with (
        photo_on_disk(sources / name, tmp_path) as photo,
        refine_streamed(refiner, photo.rgb, **TILING) as result,
    ):
        assert np.array_equal(result.depth[:], whole.depth)
        assert np.array_equal(result.coarse, whole.coarse)
        assert (result.tiling, result.seam, result.unit) == (whole.tiling, whole.seam, whole.unit)
        assert len({part.rows.start for part in _plan(refiner, whole.depth).tiles}) >= 3
    assert list(tmp_path.iterdir()) == []


def _plan(refiner, depth):
    from prv2cli.refine.plan import plan_photograph

    return plan_photograph(refiner.config, *depth.shape, **TILING)


def test_a_given_map_is_refined_alike(refiner, photo, tmp_path):
    given = np.linspace(0.2, 0.9, 80 * 65, dtype=np.float32).reshape(80, 65)
    options = {"coarse_depth": given, "coarse_kind": "inverse", "coarse_unit": "relative", "tile": 128}
    whole = refiner.refine(photo, **options)
    with refine_streamed(refiner, spool(photo, tmp_path), **options) as result:
        assert result.unit == "relative"
        assert np.array_equal(result.depth[:], whole.depth)


def test_the_papers_tilings_are_refused(refiner, photo, tmp_path):
    with (
        pytest.raises(UsageError, match="--mode m2"),
        refine_streamed(refiner, spool(photo, tmp_path), mode="m2"),
    ):
        pass


def _open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux lists them")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_after_an_interruption(refiner, photo, tmp_path, error):
    def interrupt(done: int, total: int) -> None:
        raise error

    Image.fromarray(photo).save(tmp_path / "photo.png")
    before = _open_files()
    with (
        pytest.raises(error),
        photo_on_disk(tmp_path / "photo.png", tmp_path) as spooled_photo,
        refine_streamed(refiner, spooled_photo.rgb, **TILING, progress=interrupt),
    ):
        pass
    assert _open_files() == before
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


# --- writing ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def depth() -> np.ndarray:
    """(530, 600) metres with all that a writer has to think of."""
    values = np.random.default_rng(2).uniform(0.5, 300, (530, 600)).astype(np.float32)
    values[0, :4] = [np.nan, np.inf, 0, -1]
    return values


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("inverse", [False, True])
def test_a_tiled_bigtiff_holds_the_same(tmp_path, depth, dtype, inverse):
    encoding, metadata = Encoding("tiff", dtype, 300.0, inverse), DepthMetadata(model="m", focal_px=500.0)
    whole = write(tmp_path / "whole.tif", depth, metadata, encoding)
    report = write_streamed(tmp_path / "tiles.tif", spool(depth, tmp_path), metadata, encoding)
    assert (report.clipped, report.invalid, report.rounded) == (whole.clipped, whole.invalid, whole.rounded)
    assert report.bytes == (tmp_path / "tiles.tif").stat().st_size
    a, b = read_depth(tmp_path / "whole.tif"), read_depth(tmp_path / "tiles.tif")
    assert np.array_equal(a.values, b.values, equal_nan=True)
    assert a.metadata.to_json() == b.metadata.to_json()
    with tifffile.TiffFile(tmp_path / "tiles.tif") as tiff:
        page = tiff.pages.first
        assert tiff.is_bigtiff and page.is_tiled and page.dtype == np.dtype(dtype)
    if dtype == "uint16":  # another reader
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / "tiles.tif")), np.asarray(Image.open(tmp_path / "whole.tif"))
        )


@pytest.mark.parametrize("format", ["png", "npy", "npz"])
def test_other_formats_are_the_same_bytes(tmp_path, depth, format):
    write(tmp_path / "whole", depth, DepthMetadata(), Encoding(format))
    write_streamed(tmp_path / "bands", spool(depth, tmp_path), DepthMetadata(), Encoding(format))
    assert (tmp_path / "bands").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_preview_is_the_same(tmp_path, depth):
    write_preview(tmp_path / "whole.png", depth)
    array: Any = spool(depth, tmp_path)
    write_preview(tmp_path / "bands.png", array)
    assert (tmp_path / "bands.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


def test_exr_is_refused(tmp_path, depth):
    with pytest.raises(UsageError, match=r"use \.tif"):
        write_streamed(tmp_path / "d.exr", spool(depth, tmp_path), DepthMetadata(), Encoding("exr"))


# --- estimating -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_the_header_tells_size_and_bits(tmp_path, format):
    path = tmp_path / "photo"
    path.write_bytes(files.saved(files.RGB8, format).getvalue())
    header = estimate.read_header(path)
    assert (header.width, header.height, header.deep) == (files.W, files.H, False)
    assert header.decoding >= 4 * files.W * files.H


def test_the_header_is_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, source in {
        "a.jpg": files.saved(files.RGB8, "JPEG", exif=exif),
        "a.tif": files.tiff(files.RGB16, photometric="rgb", extratags=[(274, 3, 1, 6, True)]),
    }.items():
        (tmp_path / name).write_bytes(source.getvalue())
        header = estimate.read_header(tmp_path / name)
        assert (header.width, header.height) == (files.H, files.W)
        assert header.deep == (name == "a.tif")


def test_a_progressive_jpeg_takes_more(tmp_path):
    for name, options in {"base": {}, "420": {"progressive": True}}.items():
        (tmp_path / name).write_bytes(files.saved(files.RGB8, "JPEG", **options).getvalue())
    base, progressive = (estimate.read_header(tmp_path / name).decoding for name in ("base", "420"))
    assert base == 4 * files.W * files.H
    assert progressive == pytest.approx(7 * files.W * files.H, abs=1)


def test_in_bands_the_picture_of_a_progressive_jpeg_lies_on_disk(tmp_path, monkeypatch):
    """What is held then are the coefficients: 2 bytes for each pixel of the luma and half as many of the chroma."""
    (tmp_path / "a").write_bytes(files.saved(files.RGB8, "JPEG", progressive=True).getvalue())
    monkeypatch.setattr("prv2cli.photo.jpeg_bands.POSSIBLE", True)
    assert estimate.read_header(tmp_path / "a").decoding_bands == pytest.approx(3 * files.W * files.H, abs=1)
    monkeypatch.setattr("prv2cli.photo.jpeg_bands.POSSIBLE", False)
    assert estimate.read_header(tmp_path / "a").decoding_bands == pytest.approx(7 * files.W * files.H, abs=1)


def test_the_header_of_what_is_no_photograph(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture at all, but some text")
    with pytest.raises(InputError, match=r"a\.jpg"):
        estimate.read_header(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(files.saved(files.RGB8, "JPEG").getvalue())
    with pytest.raises(InputError, match="--max-pixels"):
        estimate.read_header(tmp_path / "b.jpg", max_pixels=10)


def _giant(decoding: int = 2_400_000_000, bands: int = 200_000_000) -> estimate.Header:
    return estimate.Header("giant.tif", "TIFF", 30_000, 20_000, False, decoding, bands)


def test_600_megapixels_take_less_than_4_gb_in_bands():
    for bands in (200_000_000, 2_400_000_000):  # a TIFF in strips; a JPEG, which is decoded whole
        memory = estimate.memory_for(_giant(bands=bands))
        assert memory.in_bands < 4e9 < memory.in_memory
        assert memory.disk < 6e9


def test_the_way_follows_from_the_free_memory():
    header = _giant()
    memory = estimate.memory_for(header)
    assert estimate.choose_way(header, memory, 64 * 10**9) == "memory"
    assert estimate.choose_way(header, memory, 6 * 10**9) == "bands"
    with pytest.raises(InputError, match=r"giant\.tif: 30000 x 20000 needs \d+\.\d GB .* 1\.0 GB are free"):
        estimate.choose_way(header, memory, 10**9)
    small = estimate.Header("small.jpg", "JPEG", 400, 300, False, 480_000, 480_000)
    assert estimate.choose_way(small, estimate.memory_for(small), 4 * 10**9) == "memory"


def test_a_dry_run_tells_the_tiles_and_a_time(refiner, sources, in_memory):
    header = estimate.read_header(sources / "turned.jpg")
    found = estimate.dry_run(refiner, header, **TILING, available=10**11)
    whole = in_memory["turned.jpg"]
    assert (found.tiles, found.tiling, found.way) == (whole.tiles, whole.tiling, "memory")
    assert found.host_bytes == found.memory.in_memory
    took = whole.seconds["reduced"] + whole.seconds["tiles"]
    assert found.seconds is not None and took / 5 < found.seconds < took * 5
    assert estimate.dry_run(refiner, header, **TILING, timed=False, available=10**11).seconds is None
