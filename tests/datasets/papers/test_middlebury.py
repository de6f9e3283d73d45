"""Middlebury in its published layout, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import opened, picture, ramp, text

from prv2cli.errors import InputError


def pfm(path: Path, numbers: np.ndarray) -> None:
    """Rows from the bottom up, little-endian, as the publishers write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"Pf\n{numbers.shape[1]} {numbers.shape[0]}\n-1.0\n".encode()
    path.write_bytes(head + numbers[::-1].astype("<f4").tobytes())


CALIBRATION = """cam0=[3997.684 0 1176.728; 0 3997.684 1011.728; 0 0 1]
cam1=[3997.684 0 1307.839; 0 3997.684 1011.728; 0 0 1]
doffs=131.111
baseline=193.001
width=2964
height=1988
ndisp=280
"""


@pytest.mark.parametrize("name", ["disp0.pfm", "disp0GT.pfm"])
def test_middlebury(tmp_path: Path, name: str) -> None:
    disparity = ramp(-3, 260)  # below 0 is fine where the principal points differ
    disparity[1, 2] = np.inf
    scene = tmp_path / "Adirondack-perfect"
    picture(scene / "im0.png")
    pfm(scene / name, disparity)
    text(scene / "calib.txt", CALIBRATION)
    data = opened(layout="middlebury", root=tmp_path)
    assert list(data.names) == ["Adirondack-perfect/im0"]
    sample = data[0]
    expected = 0.193001 * 3997.684 / (disparity.astype(float) + 131.111)
    expected[1, 2] = np.nan
    np.testing.assert_allclose(sample.truth, expected, rtol=1e-6)
    assert np.isnan(sample.disparity[1, 2])
    assert sample.disparity[0, 0] == -3  # the top row, not the bottom one
    assert sample.focal_px == pytest.approx(3997.684)
    text(tmp_path / "mine.txt", "Adirondack-perfect\n")
    assert len(opened(layout="middlebury", root=tmp_path, split="mine")) == 1
    text(scene / "calib.txt", "cam0=[3997.684 0 1; 0 1 1; 0 0 1]\nbaseline=193\n")
    with pytest.raises(InputError, match=r"calib\.txt: no doffs="):
        data[0]
