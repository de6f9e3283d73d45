"""Cityscapes in its published layout, written here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_files import opened, picture, png16, text
from PIL import Image

from prv2cli.errors import InputError, UsageError

CITY_SIZE = (16, 32)


def city(root: Path, folder: str = "val", labels: bool = False) -> np.ndarray:
    """Stored disparities; the camera's baseline times focal length is 0.25 * 2000."""
    stored = np.linspace(5000, 40000, CITY_SIZE[0] * CITY_SIZE[1]).reshape(CITY_SIZE).astype(np.uint16)
    stored[2, 5], stored[2, 6] = 0, 1  # unknown, and infinitely far
    stem = f"{folder}/ulm/ulm_000001_000019"
    picture(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", CITY_SIZE)
    png16(root / "disparity" / f"{stem}_disparity.png", stored)
    camera = {"extrinsic": {"baseline": 0.25}, "intrinsic": {"fx": 2000.0, "fy": 2000.0}}
    text(root / "camera" / f"{stem}_camera.json", json.dumps(camera))
    if labels:
        colours = np.zeros((*CITY_SIZE, 3), np.uint8)
        colours[0, 4:8] = (70, 130, 180)
        path = root / "gtFine" / f"{stem}_gtFine_color.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(colours).save(path)
    return stored


@pytest.mark.parametrize("labels", [False, True])
def test_cityscapes(tmp_path: Path, labels: bool) -> None:
    stored = city(tmp_path, labels=labels)
    sample = opened(layout="cityscapes", root=tmp_path)[0]
    expected = 0.25 * 2000 / ((stored.astype(float) - 1) / 256 + 1e-300)
    expected[2, 5:7] = np.nan
    expected[12:] = np.nan  # the lowest quarter
    expected[:, :2] = expected[:, 30:] = np.nan  # a sixteenth at each side
    if labels:
        expected[0, 4:8] = np.nan
    np.testing.assert_allclose(sample.truth, expected, rtol=1e-6)
    assert (sample.name, sample.focal_px) == ("leftImg8bit/val/ulm/ulm_000001_000019_leftImg8bit", 2000)
    whole = opened(layout="cityscapes", root=tmp_path, trim=False)[0].truth
    assert np.isnan(whole).sum() == 2 + 4 * labels


def test_cityscapes_below_a_folder_of_the_same_name(tmp_path: Path) -> None:
    city(tmp_path / "leftImg8bit")
    assert opened(layout="cityscapes", root=tmp_path / "leftImg8bit")[0].valid.any()


def test_cityscapes_split_file(tmp_path: Path) -> None:
    city(tmp_path, "train")
    line = "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png disparity/x.png\n"
    text(tmp_path / "mine.txt", line)
    assert opened(layout="cityscapes", root=tmp_path, split="mine")[0].valid.any()
    with pytest.raises(UsageError, match=r"data\.split val: neither a file nor a list"):
        opened(layout="cityscapes", root=tmp_path)
    text(tmp_path / "camera/train/ulm/ulm_000001_000019_camera.json", '{"intrinsic": {"fx": 3}}')
    with pytest.raises(InputError, match=r"camera\.json: no intrinsic\.fx and extrinsic\.baseline"):
        opened(layout="cityscapes", root=tmp_path, split="train")[0]
