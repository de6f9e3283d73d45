"""Booster in its published layout, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import npy, opened, picture, ramp, text

from prv2cli.errors import InputError

CALIBRATION = """<?xml version="1.0"?>
<opencv_storage>
<mtxL type_id="opencv-matrix"><rows>3</rows><cols>3</cols><dt>d</dt><data>1. 0. 0. 0. 1. 0. 0. 0. 1.</data></mtxL>
<proj_matL type_id="opencv-matrix">
  <rows>3</rows>
  <cols>4</cols>
  <dt>d</dt>
  <data>
    5.4321e+03 0. 2.05e+03 0. 0. 5.4321e+03 1.5e+03 0. 0. 0. 1. 0.</data></proj_matL>
<baselineLR>8.0123e+01</baselineLR>
</opencv_storage>
"""


def test_booster(tmp_path: Path) -> None:
    scene = tmp_path / "train/balanced/Bathroom"
    for lighting in (0, 1):
        picture(scene / f"camera_00/im{lighting}.png")
    picture(scene / "camera_02/im0.png")
    disparity = ramp(0, 300)
    npy(scene / "disp_00.npy", disparity)
    text(scene / "calib_00-02.xml", CALIBRATION)
    data = opened(layout="booster", root=tmp_path)
    assert list(data.names) == [f"train/balanced/Bathroom/camera_00/im{n}" for n in (0, 1)]
    expected = 0.080123 * 5432.1 / np.where(disparity > 0, disparity, np.nan).astype(float)
    np.testing.assert_allclose(data[1].truth, expected, rtol=1e-6)
    assert np.isnan(data[1].disparity[0, 0])
    assert data[1].focal_px == pytest.approx(5432.1)
    line = "Bathroom/camera_00/im1.png Bathroom/disp_00.npy Bathroom/calib_00-02.xml\n"
    text(tmp_path / "train_stereo.txt", line)
    listed = opened(layout="booster", root=tmp_path, split="train_stereo")
    assert [name[-3:] for name in listed.names] == ["im1"]
    np.testing.assert_array_equal(listed[0].truth, data[1].truth)
    text(scene / "calib_00-02.xml", CALIBRATION.replace("baselineLR", "baseline"))
    with pytest.raises(InputError, match=r"calib_00-02\.xml: no proj_matL and baselineLR"):
        data[0]
