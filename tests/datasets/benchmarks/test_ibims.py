"""iBims-1 in its published layouts, written here: pictures, and MATLAB's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, opened, picture, png16, text
from PIL import Image

from prv2cli.errors import InputError

METRES = np.linspace(1, 49, SIZE[0] * SIZE[1]).reshape(SIZE)


def mask(path: Path, hole: tuple[int, int]) -> np.ndarray:
    """1-bit, as published."""
    counts = np.ones(SIZE, bool)
    counts[hole] = False
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(counts).save(path)
    return counts


def write_pictures(base: Path, name: str) -> None:
    picture(base / f"rgb/{name}.png")
    png16(base / f"depth/{name}.png", np.round(METRES * 65535 / 50))
    mask(base / f"mask_invalid/{name}.png", (0, 1))
    mask(base / f"mask_transp/{name}.png", (2, 3))
    text(base / f"calib/{name}.txt", "550.4,550.1,320.5,240.2\n")


def test_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "ibims1_core_raw", "corridor_01")
    write_pictures(tmp_path / "ibims1_core_raw", "office_02")
    for root in (tmp_path, tmp_path / "ibims1_core_raw"):
        assert list(opened(layout="ibims", root=root).names) == ["corridor_01", "office_02"]
    sample = opened(layout="ibims", root=tmp_path)[0]
    expected = METRES.copy()
    expected[0, 1] = expected[2, 3] = np.nan
    np.testing.assert_allclose(sample.truth, expected, atol=50 / 65535)
    assert sample.focal_px == pytest.approx(550.4)
    text(tmp_path / "imagelist.txt", "office_02\noffice_03\n")
    data = opened(layout="ibims", root=tmp_path)
    assert list(data.names) == ["office_02", "office_03"]
    with pytest.raises(InputError, match=r"office_03\.png: no such file"):
        data[1]


def test_matlab_files(tmp_path: Path) -> None:
    matlab = pytest.importorskip("scipy.io")
    rgb = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    invalid, transparent = np.ones(SIZE, np.uint8), np.ones(SIZE, np.uint8)
    invalid[0, 1] = transparent[2, 3] = 0
    fields = {
        "rgb": rgb,
        "depth": METRES.astype(np.float32),
        "mask_invalid": invalid,
        "mask_transp": transparent,
        "calib": np.array([[550.4, 0, 0], [0, 550.1, 0], [320.5, 240.2, 1]]),
    }
    folder = tmp_path / "ibims1_core_mat"
    folder.mkdir()
    matlab.savemat(folder / "office_02.mat", {"data": fields})
    matlab.savemat(folder / "office_03.mat", {"image": rgb})
    (folder / "office_04.mat").write_bytes(b"MATLAB 5.0 MAT-file, or not")
    data = opened(layout="ibims", root=tmp_path)
    expected = METRES.copy()
    expected[0, 1] = expected[2, 3] = np.nan
    np.testing.assert_allclose(data[0].truth, expected, rtol=1e-6)
    np.testing.assert_array_equal(data[0].rgb, rgb)
    assert data[0].focal_px == pytest.approx(550.4)
    with pytest.raises(InputError, match=r"office_03\.mat: not a file of iBims-1"):
        data[1]
    with pytest.raises(InputError, match=r"office_04\.mat: "):
        data[2]
