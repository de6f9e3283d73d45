"""Arrays on disk: slices as those of an array, never whole in memory, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_arrays import on_disk, small_bands

from prv2cli.errors import DiskFullError
from prv2cli.files.disk_array import DiskArray, MirroredArray
from prv2cli.resampling.area import shrink
from prv2cli.resampling.area_in_bands import shrink_on_disk


@pytest.fixture(autouse=True)
def _small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures go through many bands, too."""
    small_bands(monkeypatch)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_slices_are_those_of_an_array(tmp_path: Path, dtype: Any) -> None:
    values = np.random.default_rng(0).integers(0, 250, (61, 83, 3)).astype(dtype)
    array = on_disk(values, tmp_path)
    keys: list[Any] = [
        np.s_[:],
        np.s_[3:9],
        np.s_[-4:],
        np.s_[50:500],
        np.s_[7:7],
        np.s_[2:40, 5:60],
        np.s_[::3, 1::7],
        np.s_[:, 80:99],
        np.s_[4:6, 9:9],
    ]
    for key in keys:
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


def test_it_never_becomes_one_array_by_accident(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="slices"):
        np.asarray(on_disk(np.ones((3, 4)), tmp_path))


def test_threads_may_share_one(tmp_path: Path) -> None:
    values = np.arange(200 * 300, dtype=np.float32).reshape(200, 300)
    with DiskArray(values.shape, np.float32, tmp_path) as whole, ThreadPoolExecutor(8) as pool:

        def double(row: int) -> np.ndarray:
            whole[row : row + 1] = 2 * whole[row : row + 1, :]
            return whole[row : row + 1]

        whole[:] = values
        for _ in range(3):
            found = np.concatenate(list(pool.map(double, range(200))))
            values = 2 * values
            assert np.array_equal(found, values)


def test_a_full_disk_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**8))
    with pytest.raises(DiskFullError, match=r"7\.2 GB .* 0\.1 GB are free"):
        DiskArray((30_000, 20_000, 3), np.float32, tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, numpy as np; from pathlib import Path\n"
        "from prv2cli.files.disk_array import DiskArray\n"
        "a = DiskArray((900, 900), np.float32, Path(sys.argv[1])); a[:] = np.ones((900, 900))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert child.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_mirrored_array_reads_from_the_other_side(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    whole = DiskArray(pixels.shape, np.uint8, tmp_path)
    whole[:] = pixels
    seen, expected = MirroredArray(whole), pixels[:, ::-1]
    for key in (slice(2, 5), (slice(None), slice(3, 20)), (slice(0, 4), slice(0, 1))):
        assert np.array_equal(seen[key], expected[key])
    assert np.array_equal(shrink_on_disk(seen, (3, 4)), shrink(expected, (3, 4))[0].permute(1, 2, 0).numpy())
    del seen
    assert np.array_equal(whole[:], pixels)  # still open
