"""Spring (Mehl et al., CVPR 2023): an animated film, 1920 x 1080, with disparity. Needs h5py (extra `train`).

    train/<sequence>/frame_left/frame_left_0001.png
    train/<sequence>/disp1_left/disp1_left_0001.dsp5    HDF5, dataset "disparity", float32 px, of twice the size
    train/<sequence>/cam_data/intrinsics.txt            a frame a line: fx fy cx cy

Disparities are pixels of the picture though there are four of them for each of its pixels; as the publishers say, every
other one is taken. The cameras stand 0.065 m apart: depth = 0.065 * fx / disparity, and a disparity of 0 is the sky.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prv2cli.datasets.arrays import read_hdf5, read_table
from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    disparity_to_depth,
    mark_invalid,
    name_of,
    read_rgb,
    thinned,
)
from prv2cli.errors import InputError
from prv2cli.extras import import_h5py
from prv2cli.settings import PositiveInt, Settings

_BASELINE = 0.065  # metres


class SpringData(Settings):
    """`every`: only each so many-th frame of a sequence, which differ little."""

    layout: Literal["spring"] = "spring"
    root: Path
    every: PositiveInt = 1


class Spring(ListedData[Path]):
    """The left pictures of the training part; the test part has no truth."""

    def __init__(self, config: SpringData) -> None:
        root = check_root(config.root)
        import_h5py()  # said before anything is read
        places = (root / "spring" / "train", root / "train", root)
        base = next(place for place in places if place.is_dir())
        disparities = thinned(base.glob("*/disp1_left/*.dsp5"), config.every)
        super().__init__(
            [(name_of(_picture(path), root), path) for path in disparities],
            f"data.root {root}: no frame of Spring (train/<sequence>/disp1_left/*.dsp5)",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        rgb = read_rgb(_picture(entry))
        stored = read_hdf5(entry, "disparity")
        if stored.shape == (2 * rgb.shape[0], 2 * rgb.shape[1]):
            stored = stored[::2, ::2]
        disparity = mark_invalid(stored)
        focal = _focal(entry)
        return Sample(name, rgb, disparity_to_depth(disparity, focal, _BASELINE), disparity, focal)


def _picture(disparity: Path) -> Path:
    name = disparity.stem.replace("disp1", "frame")
    return disparity.parents[1] / "frame_left" / f"{name}.png"


def _focal(disparity: Path) -> float:
    """px, of the frame's line; frames count from 1. One line alone is that of all frames."""
    path = disparity.parents[1] / "cam_data" / "intrinsics.txt"
    rows = read_table(path, 4)
    frame = disparity.stem.rpartition("_")[2]
    if len(rows) == 1:
        return rows[0][0]
    if not frame.isdecimal() or not 1 <= int(frame) <= len(rows):
        raise InputError(f"{path}: {len(rows)} lines, none for the frame {disparity.name}")
    return rows[int(frame) - 1][0]
