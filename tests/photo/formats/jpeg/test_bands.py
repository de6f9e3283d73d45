"""Progressive JPEGs in bands: the values of a whole decode, and memory for the coefficients alone."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import image_files as files
import numpy as np
import pytest
from PIL import Image

from prv2cli.errors import DiskFullError, InputError
from prv2cli.photo.formats.jpeg import bands as jpeg_bands
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import read_photo

WIDTH, HEIGHT = 900, 700
_CHILD = """
import sys
from pathlib import Path
from prv2cli.photo.formats.jpeg import bands as jpeg_bands
from prv2cli.photo.on_disk import photo_on_disk

def resident(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024

folder, possible = Path(sys.argv[1]), sys.argv[2] == "disk"
jpeg_bands.POSSIBLE = possible
with photo_on_disk(folder / "small.jpg", folder):
    pass  # what is imported when it is needed
before = resident("VmRSS")
with photo_on_disk(folder / "photo.jpg", folder) as photo:
    print((resident("VmHWM") - before) / (photo.rgb.shape[0] * photo.rgb.shape[1]))
"""

linux = pytest.mark.skipif(not jpeg_bands.POSSIBLE, reason="only Linux reserves space and lets pages go")


def _progressive(mode: str, **options: Any) -> io.BytesIO:
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    channels = [x * 3 + y, x - y * 2, (x * y) >> 6, x ^ y][: {"L": 1, "RGB": 3, "CMYK": 4}[mode]]
    pixels = np.stack(channels, axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode).save(file, "JPEG", progressive=True, **options)
    return io.BytesIO(file.getvalue())


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of the files that were mapped."""
    sizes: list[int] = []
    real = jpeg_bands._mapped_file

    def mapped_file(size: int, folder: Path) -> Any:
        sizes.append(size)
        return real(size, folder)

    monkeypatch.setattr(jpeg_bands, "_mapped_file", mapped_file)
    # As often as can be, to meet the decoder and the reading of bands at work.
    monkeypatch.setattr(jpeg_bands, "SECONDS", 1e-5)
    yield sizes
    assert "jpeg pages" not in {thread.name for thread in threading.enumerate()}


@linux
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_values_are_those_of_a_whole_decode(
    mode: str, orientation: int, mapped: list[int], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for options in ({}, {"subsampling": 0}, {"subsampling": 2, "quality": 30}):
        source = _progressive(mode, exif=exif, **options)
        whole = read_photo(io.BytesIO(source.getvalue()), name="photo")
        with photo_on_disk(source, tmp_path, name="photo") as photo:
            assert np.array_equal(photo.rgb[:], whole.rgb)
            assert (photo.notes, photo.sha256) == (whole.notes, whole.sha256)
    assert mapped == 3 * [WIDTH * HEIGHT * (1 if mode == "L" else 4)]
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_jpeg_and_other_systems_need_no_file(
    mapped: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with photo_on_disk(files.saved(files.RGB8, "JPEG"), tmp_path):
        pass
    monkeypatch.setattr(jpeg_bands, "POSSIBLE", False)
    source = _progressive("RGB")
    with photo_on_disk(source, tmp_path) as photo:
        assert np.array_equal(photo.rgb[:], read_photo(io.BytesIO(source.getvalue())).rgb)
    assert mapped == []


@linux
@pytest.mark.parametrize(("length", "files_mapped"), [("header", 0), (0.3, 1), (0.99, 1)])
def test_a_cut_one_is_one_clear_error(
    length: float | str, files_mapped: int, mapped: list[int], tmp_path: Path
) -> None:
    data = _progressive("RGB").getvalue()
    end = data.index(b"\xff\xda") if length == "header" else int(len(data) * float(length))
    with (
        pytest.raises(InputError, match="photo: damaged or cut short"),
        photo_on_disk(io.BytesIO(data[:end]), tmp_path, name="photo"),
    ):
        pass
    assert len(mapped) == files_mapped


@linux
def test_a_full_disk_is_told_before_the_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9, 64 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with (
        pytest.raises(DiskFullError, match=r"0\.1 GB are free"),
        photo_on_disk(_progressive("RGB"), tmp_path),
    ):
        pass


@linux
def test_a_disk_that_fills_meanwhile_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskFullError, match="no space left"), photo_on_disk(_progressive("RGB"), tmp_path):
        pass


@linux
def test_the_picture_is_not_held_in_memory(tmp_path: Path) -> None:
    """4:2:0 has 3 bytes of coefficients a pixel; Pillow's picture is 4 more."""
    Image.effect_noise((40, 30), 50).convert("RGB").save(tmp_path / "small.jpg", progressive=True)
    Image.effect_noise((400, 300), 50).convert("RGB").resize((8000, 6000)).save(
        tmp_path / "photo.jpg", progressive=True, subsampling=2
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    taken = [
        float(
            subprocess.run(
                [sys.executable, "-c", _CHILD, str(tmp_path), way],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for way in ("memory", "disk")
    ]
    # Pages of the file that the kernel has not let go yet count as well.
    assert taken[1] < 6.5 < taken[0]
