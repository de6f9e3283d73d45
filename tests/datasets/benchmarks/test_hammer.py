"""HAMMER in its published layout, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import opened, picture, png16, ramp, text


def frames(root: Path, sequence: str, count: int) -> None:
    for frame in range(count):
        picture(root / sequence / f"polarization/rgb/{frame:06d}.png")
        png16(root / sequence / f"polarization/_gt/{frame:06d}.png", ramp(0, 4000 + frame))
    text(root / sequence / "polarization/intrinsics.txt", "701.1 0 540.2\n0 700.9 410.3\n0 0 1\n")


def test_hammer(tmp_path: Path) -> None:
    frames(tmp_path, "train/scene2_traj1_1", 3)
    frames(tmp_path, "test/scene12_traj1_1", 2)
    png16(tmp_path / "train/scene2_traj1_1/polarization/depth_d435/000000.png", ramp(0, 9))  # a sensor's
    data = opened(layout="hammer", root=tmp_path)
    assert len(data) == 5
    assert data.names[0] == "test/scene12_traj1_1/polarization/rgb/000000"
    expected = np.floor(ramp(0, 4000)) / 1000
    expected[0, 0] = np.nan
    np.testing.assert_allclose(data[0].truth, expected, rtol=1e-6)
    assert data[0].focal_px == pytest.approx(701.1)
    few = opened(layout="hammer", root=tmp_path, every=2)
    assert [name[-6:] for name in few.names] == ["000000", "000000", "000002"]
