"""ScanNet++ in its published layout, written here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_files import opened, picture, png16, ramp, text

from prv2cli.datasets.samples import Readable
from prv2cli.errors import InputError


def scannet(root: Path, scene: str, device: str, image: str, depth: str) -> None:
    picture(root / "data" / scene / device / image, (12, 16))
    png16(root / "data" / scene / device / depth, ramp(1000, 5000))
    camera = {"fl_x": 100.0, "w": 8}
    text(root / "data" / scene / device / "nerfstudio/transforms.json", json.dumps(camera))


def test_scannetpp(tmp_path: Path) -> None:
    scannet(tmp_path, "aa11", "iphone", "rgb/frame_000010.jpg", "render_depth/frame_000010.png")
    scannet(tmp_path, "bb22", "iphone", "rgb/frame_000020.jpg", "render_depth/frame_000020.png")
    scannet(tmp_path, "bb22", "dslr", "resized_images/DSC00001.JPG", "render_depth/DSC00001.png")
    text(tmp_path / "splits/nvs_sem_val.txt", "bb22\n")
    everything = opened(layout="scannetpp", root=tmp_path)
    assert list(everything.names) == ["aa11/iphone/rgb/frame_000010", "bb22/iphone/rgb/frame_000020"]
    split = opened(layout="scannetpp", root=tmp_path, split="nvs_sem_val")
    assert list(split.names) == ["bb22/iphone/rgb/frame_000020"]
    sample = split[0]
    # Each depth of the smaller map fills two by two pixels of the picture.
    np.testing.assert_allclose(sample.truth, np.kron(ramp(1, 5), np.ones((2, 2))), atol=1e-3)
    assert sample.focal_px == 200
    camera = opened(layout="scannetpp", root=tmp_path, device="dslr")
    assert camera[0].name == "bb22/dslr/resized_images/DSC00001"
    text(
        tmp_path / "pairs.txt",
        "data/aa11/iphone/rgb/frame_000010.jpg data/aa11/iphone/render_depth/frame_000010.png\n",
    )
    assert opened(layout="scannetpp", root=tmp_path, split="pairs")[0].truth.shape == (12, 16)
    text(tmp_path / "more.txt", "aa11\ncc33\n")
    told: list[str] = []
    assert len(list(Readable(opened(layout="scannetpp", root=tmp_path, split="more"), told.append))) == 1
    assert len(told) == 1  # a scene of the list that is not there
    assert "cc33" in told[0]
    text(tmp_path / "mixed.txt", "aa11\na.jpg b.png\n")
    with pytest.raises(InputError, match=r"mixed: some lines are scenes and some are pairs"):
        opened(layout="scannetpp", root=tmp_path, split="mixed")
