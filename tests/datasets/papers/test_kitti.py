"""KITTI in its published layouts, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import DRIVE, kitti, opened, picture, png16, ramp, text
from PIL import Image

from prv2cli.errors import InputError


@pytest.mark.parametrize(
    ("raw", "depth"),
    [("raw", "depth"), ("input", "gt_depth"), ("", "data_depth_annotated/val"), ("", "train")],
)
def test_kitti_with_the_benchmark_crop(tmp_path: Path, raw: str, depth: str) -> None:
    metres = kitti(tmp_path, raw, depth)
    frame = f"2011_09_26/{DRIVE}/image_02/data/0000000069.png"
    truth = f"{DRIVE}/proj_depth/groundtruth/image_02/0000000069.png"
    text(tmp_path / "eigen.txt", f"{frame} {truth} 721.5377\n2011_09_26/other.png None 721.5377\n")
    for split in ("eigen", None):
        data = opened(layout="kitti", root=tmp_path, split=split)
        assert len(data) == 1
        sample = data[0]
        window = metres[375 - 352 :, 13 : 13 + 1216]
        np.testing.assert_allclose(sample.truth, np.where(window > 0, window, np.nan), atol=1 / 256)
        assert sample.rgb.shape == (352, 1216, 3)
        assert sample.focal_px == pytest.approx(721.5377)
    assert opened(layout="kitti", root=tmp_path, benchmark_crop=False)[0].truth.shape == (375, 1242)


def test_kitti_selection(tmp_path: Path) -> None:
    picture(tmp_path / "image" / f"{DRIVE}_image_0000000005_image_02.png")
    png16(
        tmp_path / "groundtruth_depth" / f"{DRIVE}_groundtruth_depth_0000000005_image_02.png", ramp(256, 2560)
    )
    sample = opened(layout="kitti", root=tmp_path, benchmark_crop=False)[0]
    np.testing.assert_allclose(sample.truth, ramp(1, 10), atol=1 / 256)
    assert sample.focal_px is None
    matrix = "721.5 0 609.5 0 721.5 172.8 0 0 1"
    text(tmp_path / "intrinsics" / f"{DRIVE}_image_0000000005_image_02.txt", matrix)
    assert opened(layout="kitti", root=tmp_path, benchmark_crop=False)[0].focal_px == 721.5
    with pytest.raises(
        InputError, match=r"8 x 6 is too small for the benchmark crop; use data\.benchmark_crop"
    ):
        opened(layout="kitti", root=tmp_path)[0]


def test_kitti_jpeg_pictures_and_the_focal_length_of_the_list(tmp_path: Path) -> None:
    kitti(tmp_path, "raw", "depth")
    day = tmp_path / "raw/2011_09_26"
    image = day / DRIVE / "image_02/data/0000000069.png"
    Image.open(image).save(image.with_suffix(".jpg"))
    image.unlink()
    (day / "calib_cam_to_cam.txt").unlink()
    frame = f"2011_09_26/{DRIVE}/image_02/data/0000000069.png"
    truth = f"{DRIVE}/proj_depth/groundtruth/image_02/0000000069.png"
    text(tmp_path / "list.txt", f"{frame} {truth} 700.5\n{frame} {truth}\n{frame} {truth} none\n")
    data = opened(layout="kitti", root=tmp_path, split="list")
    assert [data[i].focal_px for i in range(3)] == [700.5, None, None]
    assert opened(layout="kitti", root=tmp_path)[0].rgb.shape == (352, 1216, 3)


def test_folders_behind_links_are_looked_into_and_loops_end(tmp_path: Path) -> None:
    kitti(tmp_path / "disk", "raw", "depth")
    root = tmp_path / "kitti"
    root.mkdir()
    for name in ("raw", "depth"):
        (root / name).symlink_to(tmp_path / "disk" / name)
    (root / "depth" / "again").symlink_to(root / "depth")
    (root / "nowhere").symlink_to("nowhere")
    data = opened(layout="kitti", root=root)
    assert list(data.names) == [f"raw/2011_09_26/{DRIVE}/image_02/data/0000000069"]
    assert data[0].valid.any()
