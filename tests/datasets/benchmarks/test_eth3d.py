"""ETH3D's photographs and raw depth in their published layout, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, opened, picture, ramp, text

from prv2cli.errors import InputError

CAMERAS = """# Camera list with one line of data per camera:
#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]
0 THIN_PRISM_FISHEYE 8 6 3411.42 3410.02 4 3 0.2 0.2 0 0 0 0 0 0
1 THIN_PRISM_FISHEYE 6 8 3000 3000 3 4 0.2 0.2 0 0 0 0 0 0
"""
IMAGES = """#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME
3 0.9 0.1 0 0 1 2 3 1 dslr_images/DSC_0001.JPG
1.5 2.5 -1 1.5 2.5 7
4 0.9 0.1 0 0 1 2 3 0 dslr_images/DSC_0002.JPG

"""


def test_eth3d(tmp_path: Path) -> None:
    scene = tmp_path / "office"
    metres = ramp(1, 30)
    metres[2, 2] = np.inf
    picture(scene / "images/dslr_images/DSC_0002.JPG")
    depth = scene / "ground_truth_depth/dslr_images/DSC_0002.JPG"
    depth.parent.mkdir(parents=True)
    depth.write_bytes(metres.astype("<f4").tobytes())
    data = opened(layout="eth3d", root=tmp_path)
    assert list(data.names) == ["office/images/dslr_images/DSC_0002"]
    assert data[0].focal_px is None  # the calibration was not unpacked
    text(scene / "dslr_calibration_jpg/cameras.txt", CAMERAS)
    text(scene / "dslr_calibration_jpg/images.txt", IMAGES)
    np.testing.assert_array_equal(data[0].truth, np.where(np.isinf(metres), np.nan, metres))
    assert data[0].focal_px == pytest.approx(3411.42)
    text(scene / "dslr_calibration_jpg/images.txt", IMAGES.replace("3 0 dslr", "3 1 dslr"))
    with pytest.raises(InputError, match=r"DSC_0002\.JPG: 8 x 6, and its camera's pictures are 6 x 8"):
        data[0]
    text(scene / "dslr_calibration_jpg/images.txt", IMAGES)
    depth.write_bytes(metres.astype("<f4").tobytes()[:-1])
    with pytest.raises(InputError, match=rf"{4 * SIZE[0] * SIZE[1] - 1} bytes are no depth of 8 x 6"):
        data[0]
    text(scene / "dslr_calibration_jpg/cameras.txt", "0 PINHOLE eight 6 1\n")
    with pytest.raises(InputError, match=r"cameras\.txt: not a list of cameras"):
        data[0]
