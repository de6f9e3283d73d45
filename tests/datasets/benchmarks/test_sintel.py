"""MPI Sintel's depth in its published encoding, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, opened, picture, ramp

from prv2cli.errors import InputError


def write(path: Path, *arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PIEH" + b"".join(array.tobytes() for array in arrays))  # the float 202021.25


def frame(base: Path, metres: np.ndarray) -> Path:
    picture(base / "final/alley_1/frame_0001.png")
    picture(base / "clean/alley_1/frame_0001.png", colour=(200, 0, 0))
    depth = base / "depth/alley_1/frame_0001.dpt"
    write(depth, np.array([SIZE[1], SIZE[0]], "<i4"), metres.astype("<f4"))
    intrinsics = np.array([[1120.0, 0, 511.5], [0, 1121, 217.5], [0, 0, 1]], "<f8")
    write(base / "camdata_left/alley_1/frame_0001.cam", intrinsics, np.eye(3, 4, dtype="<f8"))
    return depth


def test_sintel(tmp_path: Path) -> None:
    metres = ramp(0, 1000)
    depth = frame(tmp_path / "training", metres)
    sample = opened(layout="sintel", root=tmp_path)[0]
    assert sample.name == "training/final/alley_1/frame_0001"
    assert np.isnan(sample.truth[0, 0])
    np.testing.assert_array_equal(sample.truth.ravel()[1:], metres.ravel()[1:])
    assert sample.focal_px == 1120
    assert opened(layout="sintel", root=tmp_path / "training", render="clean")[0].rgb[1, 1, 0] == 200
    (tmp_path / "training/camdata_left/alley_1/frame_0001.cam").unlink()
    assert opened(layout="sintel", root=tmp_path)[0].focal_px is None
    depth.write_bytes(depth.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"frame_0001\.dpt: 200 bytes are no map of 8 x 6"):
        opened(layout="sintel", root=tmp_path)[0]
    depth.write_bytes(b"PI")
    with pytest.raises(InputError, match=r"frame_0001\.dpt: not a depth map of MPI Sintel"):
        opened(layout="sintel", root=tmp_path)[0]
