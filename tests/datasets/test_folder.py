"""Folders and tables of photographs with their depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import npy, opened, picture, png16, ramp, text

from prv2cli.datasets.samples import Readable
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.errors import InputError, UsageError


def test_folder(tmp_path: Path) -> None:
    picture(tmp_path / "images/a/one.jpg")
    picture(tmp_path / "images/two.png")
    picture(tmp_path / "images/lonely.png")
    png16(tmp_path / "depth/a/one_depth.png", ramp(1000, 9000))
    write_depth(tmp_path / "depth/two_depth.npy", ramp(2, 4), DepthMetadata())
    text(tmp_path / "images/notes.txt", "not a picture")
    data = opened(layout="folder", root=tmp_path, suffix="_depth", scale=1000)
    assert list(data.names) == ["a/one", "lonely", "two"]
    np.testing.assert_allclose(data[0].truth, ramp(1, 9), atol=1e-3)
    with pytest.raises(InputError, match=r"lonely_depth\.png: no such file"):
        data[1]
    own_unit = opened(layout="folder", root=tmp_path, suffix="_depth")
    np.testing.assert_array_equal(own_unit[2].truth, ramp(2, 4))
    with pytest.raises(UsageError, match=r"one_depth\.png does not say its unit.*data\.scale 256"):
        own_unit[0]
    picture(tmp_path / "images/two.jpg")
    with pytest.raises(UsageError, match=r"two\.png and two\.jpg have the same name"):
        opened(layout="folder", root=tmp_path, suffix="_depth")


def test_manifest(tmp_path: Path) -> None:
    picture(tmp_path / "x/one.png")
    png16(tmp_path / "y/one.png", ramp(100, 900))
    npy(tmp_path / "y/inverse.npy", 1 / ramp(2, 4))
    text(
        tmp_path / "list.csv",
        "image, depth, scale, kind, focal_px\nx/one.png, y/one.png, 100,, 512.5\nx/one.png,y/inverse.npy,1,inverse,\n",
    )
    data = opened(layout="manifest", file=tmp_path / "list.csv")
    np.testing.assert_allclose(data[0].truth, ramp(1, 9), atol=0.01)
    assert data[0].focal_px == 512.5
    np.testing.assert_allclose(data[1].truth, ramp(2, 4), rtol=1e-6)
    assert list(data.names) == ["x/one", "x/one#2"]  # or the error map of one would replace the other's
    for cells in ("abc,", "-1,", "nan,", "1,0", "1,inf"):
        text(tmp_path / "bad.csv", f"image,depth,scale,focal_px\n\n\nx/one.png,y/one.png,{cells}\n")
        with pytest.raises(InputError, match=r"bad\.csv, line 4: expected image, depth"):
            opened(layout="manifest", file=tmp_path / "bad.csv")
    with pytest.raises(UsageError, match=r"data\.file .*none\.csv: no such file"):
        opened(layout="manifest", file=tmp_path / "none.csv")
    text(tmp_path / "empty.csv", "image,depth\n")
    with pytest.raises(InputError, match=r"empty\.csv: no row below the header"):
        opened(layout="manifest", file=tmp_path / "empty.csv")


def test_a_folder_for_a_photograph_is_one_broken_sample(tmp_path: Path) -> None:
    picture(tmp_path / "x/one.png")
    npy(tmp_path / "one.npy", ramp(2, 4))
    text(tmp_path / "list.csv", "image,depth,scale\nx,one.npy,1\nx/one.png,one.npy,1\n")
    told: list[str] = []
    data = opened(layout="manifest", file=tmp_path / "list.csv")
    assert [sample.name for sample in Readable(data, told.append)] == ["x/one"]
    assert len(told) == 1
    assert "is a folder" in told[0]


def test_names_never_lead_out_of_a_folder(tmp_path: Path) -> None:
    """Error maps are named by them."""
    picture(tmp_path / "elsewhere/one.png")
    npy(tmp_path / "list/one.npy", ramp(2, 4))
    text(tmp_path / "list/list.csv", "image,depth,scale\n../elsewhere/one.png,one.npy,1\n")
    data = opened(layout="manifest", file=tmp_path / "list/list.csv")
    assert data[0].valid.all()
    assert ".." not in Path(data.names[0]).parts
    assert not Path(data.names[0]).is_absolute()


def test_relative_depth_is_no_truth(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    (tmp_path / "depth").mkdir()
    write_depth(tmp_path / "depth/a.npy", ramp(2, 4), DepthMetadata(unit="relative"))
    with pytest.raises(InputError, match=r"a\.npy: depth in unit relative is no truth"):
        opened(layout="folder", root=tmp_path)[0]
