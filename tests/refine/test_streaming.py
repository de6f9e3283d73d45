"""Refining and writing in bands on disk has the same values as in memory, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from disk_arrays import on_disk, small_bands
from PIL import Image

from prv2cli.depth_files.ours.encoding import Encoding, write
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.preview import write_preview
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import UsageError
from prv2cli.files.disk_array import DiskArray
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import read_photo
from prv2cli.refine.fuse import Depth
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import RefineRequest
from prv2cli.tiling.blend import Blender
from prv2cli.tiling.plan import TilePlan, plan_tiles

TILING: dict[str, Any] = {"tile": 64, "overlap": 0.2}


@pytest.fixture(autouse=True)
def _small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures go through many bands, too."""
    small_bands(monkeypatch)


# --- refining ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "tile"), [(300, 200, 64), (65, 500, 64), (40, 30, 64), (257, 130, 128)]
)
def test_bands_blend_as_the_whole_does(tmp_path: Path, height: int, width: int, tile: int) -> None:
    plan = plan_tiles(height, width, (tile, tile), 0.3, 32)
    rng = np.random.default_rng(0)
    whole, bands = Blender(plan), Blender(plan, tmp_path)
    for part in plan.tiles:
        values = rng.normal(size=(part.rows.length, part.columns.length)).astype(np.float32)
        whole.add(part, values)
        bands.add(part, values)
        assert len(bands._sum) <= tile
    assert np.array_equal(bands.finish().values[:], whole.finish().values)


@pytest.fixture(scope="module")
def photo(photograph: np.ndarray) -> np.ndarray:
    """(161, 130, 3): as much as three rows of small tiles need."""
    return np.ascontiguousarray(photograph[60:221, 50:180])


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
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
def in_memory(refiner: Refiner, sources: Path) -> dict[str, Depth]:
    return {
        name: refiner.refine(read_photo(sources / name).rgb, **TILING) for name in ("turned.jpg", "deep.tif")
    }


@pytest.mark.parametrize("name", ["turned.jpg", "deep.tif"])
def test_the_depth_is_that_of_the_way_in_memory(
    refiner: Refiner,
    sources: Path,
    in_memory: dict[str, Depth],
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "prv2cli.resampling.area_in_bands._IN_MEMORY_BYTES", 1000
    )  # the pass at half size from disk, too
    whole = in_memory[name]
    with (
        photo_on_disk(sources / name, tmp_path) as photo,
        refiner.refine(photo.rgb, **TILING) as result,
    ):
        assert np.array_equal(result.depth[:], whole.depth)
        assert np.array_equal(result.coarse, whole.coarse)
        assert (result.tiling, result.seam, result.unit) == (whole.tiling, whole.seam, whole.unit)
        assert len({part.rows.start for part in _plan(refiner, whole.depth).tiles}) >= 3
    assert list(tmp_path.iterdir()) == []


def _plan(refiner: Refiner, depth: np.ndarray) -> TilePlan:
    height, width = depth.shape
    return refiner.plan(height, width, RefineRequest.of(**TILING).tiling)


def test_a_given_map_is_refined_alike(refiner: Refiner, photo: np.ndarray, tmp_path: Path) -> None:
    given = np.linspace(0.2, 0.9, 80 * 65, dtype=np.float32).reshape(80, 65)
    options: dict[str, Any] = {
        "coarse_depth": given,
        "coarse_kind": "inverse",
        "coarse_unit": "relative",
        "tile": 128,
    }
    whole = refiner.refine(photo, **options)
    with refiner.refine(on_disk(photo, tmp_path), **options) as result:
        assert result.unit == "relative"
        assert np.array_equal(result.depth[:], whole.depth)


def test_the_papers_tilings_are_refused(refiner: Refiner, photo: np.ndarray, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="--mode m2"),
        refiner.refine(on_disk(photo, tmp_path), mode="m2"),
    ):
        pass


def _open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux lists them")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_after_an_interruption(
    refiner: Refiner, photo: np.ndarray, tmp_path: Path, error: type[BaseException]
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise error

    Image.fromarray(photo).save(tmp_path / "photo.png")
    before = _open_files()
    with (
        pytest.raises(error),
        photo_on_disk(tmp_path / "photo.png", tmp_path) as there,
        refiner.refine(there.rgb, **TILING, progress=interrupt),
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
def test_a_tiled_bigtiff_holds_the_same(tmp_path: Path, depth: np.ndarray, dtype: Any, inverse: bool) -> None:
    encoding, metadata = Encoding("tiff", dtype, 300.0, inverse), DepthMetadata(model="m", focal_px=500.0)
    whole = write(tmp_path / "whole.tif", depth, metadata, encoding)
    report = write(tmp_path / "tiles.tif", on_disk(depth, tmp_path), metadata, encoding)
    assert (report.clipped, report.invalid, report.rounded) == (whole.clipped, whole.invalid, whole.rounded)
    assert report.bytes == (tmp_path / "tiles.tif").stat().st_size
    a, b = read_depth(tmp_path / "whole.tif"), read_depth(tmp_path / "tiles.tif")
    assert np.array_equal(a.values, b.values, equal_nan=True)
    assert a.metadata.to_json() == b.metadata.to_json()
    with tifffile.TiffFile(tmp_path / "tiles.tif") as tiff:
        page = tiff.pages.first
        assert tiff.is_bigtiff
        assert page.is_tiled
        assert page.dtype == np.dtype(dtype)
    if dtype == "uint16":  # another reader
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / "tiles.tif")), np.asarray(Image.open(tmp_path / "whole.tif"))
        )


@pytest.mark.parametrize("format", ["png", "npy", "npz"])
def test_other_formats_are_the_same_bytes(tmp_path: Path, depth: np.ndarray, format: str) -> None:
    write(tmp_path / "whole", depth, DepthMetadata(), Encoding(format))
    write(tmp_path / "bands", on_disk(depth, tmp_path), DepthMetadata(), Encoding(format))
    assert (tmp_path / "bands").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_preview_is_the_same(tmp_path: Path, depth: np.ndarray) -> None:
    write_preview(tmp_path / "whole.png", depth)
    array: Any = on_disk(depth, tmp_path)
    write_preview(tmp_path / "bands.png", array)
    assert (tmp_path / "bands.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


def test_exr_is_refused(tmp_path: Path, depth: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"use \.tif"):
        write(tmp_path / "d.exr", on_disk(depth, tmp_path), DepthMetadata(), Encoding("exr"))


def test_nothing_is_ever_read_whole(
    refiner: Refiner, photograph: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal values would also come of reading everything at once."""
    for name, value in {
        "prv2cli.restoration.edges.by_bands.BAND_PIXELS": 1,
        "prv2cli.restoration.edges.by_bands.BAND_ROWS": 8,
        "prv2cli.restoration.back_projection.BAND_PIXELS": 5000,
        "prv2cli.depth_files.formats.rows.BAND_PIXELS": 5000,
    }.items():
        monkeypatch.setattr(name, value)
    stored = on_disk(np.tile(photograph[:, :130], (2, 1, 1)), tmp_path)  # (600, 130)
    real, shares = DiskArray.__getitem__, []

    def watched(self: DiskArray, key: Any) -> np.ndarray:
        found = real(self, key)
        shares.append(found.nbytes / self.nbytes)
        return found

    monkeypatch.setattr(DiskArray, "__getitem__", watched)
    with refiner.refine(stored, confidence=True, **TILING) as result:
        for fmt in ("tiff", "png", "npy"):
            write(tmp_path / f"a.{fmt}", result.depth, DepthMetadata(), Encoding(fmt))
    assert len(shares) > 100
    assert max(shares) < 0.5
