"""Spring's disparity in its published encoding, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, opened, picture, ramp, text

from prv2cli.errors import InputError

h5py = pytest.importorskip("h5py")


def frame(base: Path, number: int, disparity: np.ndarray) -> None:
    picture(base / f"0001/frame_left/frame_left_{number:04d}.png")
    path = base / f"0001/disp1_left/disp1_left_{number:04d}.dsp5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("disparity", data=disparity.astype(np.float32), compression="gzip")


def test_spring(tmp_path: Path) -> None:
    fine = np.full((2 * SIZE[0], 2 * SIZE[1]), 99, np.float32)  # of twice the picture's size
    fine[::2, ::2] = ramp(0, 47)
    for number in (1, 2):
        frame(tmp_path / "train", number, fine)
    camera = tmp_path / "train/0001/cam_data/intrinsics.txt"
    text(camera, "2000.5 2000.5 960 540\n3000 3000 960 540\n")
    data = opened(layout="spring", root=tmp_path)
    assert list(data.names) == [f"train/0001/frame_left/frame_left_000{n}" for n in (1, 2)]
    assert len(opened(layout="spring", root=tmp_path / "train", every=2)) == 1
    expected = 0.065 * 3000 / np.where(ramp(0, 47) > 0, ramp(0, 47), np.nan)
    np.testing.assert_allclose(data[1].truth, expected, rtol=1e-6)  # a disparity of 0 is the sky
    np.testing.assert_array_equal(data[1].disparity.ravel()[1:], ramp(0, 47).ravel()[1:])
    assert (data[0].focal_px, data[1].focal_px) == (2000.5, 3000)
    text(camera, "2000.5 2000.5 960 540\n")  # one for all frames
    assert data[1].focal_px == 2000.5
    text(camera, "1 2 3 4\n1 2 3 four\n")
    with pytest.raises(InputError, match=r"intrinsics\.txt, line 2: expected numbers"):
        data[1]
