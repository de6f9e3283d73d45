"""KITTI (Geiger et al., CVPR 2012; Uhrig et al., 3DV 2017): driving scenes with sparse depth from a laser scanner.

    raw:    2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png
            2011_09_26/calib_cam_to_cam.txt                    optional: the focal length
    depth:  2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png    16 bits: metres * 256, 0 = none
    a split file (Eigen's, as in BTS)      picture below raw, depth below depth or None, focal length
    selection:  image/<drive>_image_<frame>_image_02.png
                groundtruth_depth/<drive>_groundtruth_depth_<frame>_image_02.png
                intrinsics/<drive>_image_<frame>_image_02.txt      optional: 9 numbers, the focal length first

Pictures differ by a few pixels in size. The benchmark crop takes the lowest 352 rows and the middle 1216 columns.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    below,
    check_root,
    files_below,
    first_file,
    mark_invalid,
    name_of,
    read_numbers,
    read_rgb,
    read_text,
    split_lines,
)
from prv2cli.errors import InputError
from prv2cli.settings import Settings

_CROP = (352, 1216)
_SCALE = 256.0  # stored numbers per metre
_DEPTH_MAP = re.compile(r"/proj_depth/groundtruth/image_0[23]/[^/]+\.png$")
_RAW = ("raw", "input", "")  # where the pictures of a split file may lie below the root
_DEPTH = (
    "depth",
    "gt_depth",
    "depth/train",
    "depth/val",
    "data_depth_annotated/train",
    "data_depth_annotated/val",
    "train",
    "val",
    "",
)


class KittiData(Settings):
    """`split`: a split file. None: every depth map found, or the selection if `root` is its folder."""

    layout: Literal["kitti"] = "kitti"
    root: Path
    split: str | None = None
    benchmark_crop: bool = True


class _Files(NamedTuple):
    """focal_px: what the split file says, for pictures without a calibration file beside them."""

    image: Path
    depth: Path
    focal_px: float | None = None


class Kitti(ListedData[_Files]):
    """KITTI with the annotated depth of the depth benchmark."""

    def __init__(self, config: KittiData) -> None:
        root, self._crop = check_root(config.root), config.benchmark_crop
        if config.split is not None:
            lines = split_lines(root, config.split, 2, "a picture and its depth (or None)", "splits")
            files = [_listed(root, *line[:3]) for line in lines if line[1] != "None"]
        elif (root / "groundtruth_depth").is_dir():
            depths = sorted((root / "groundtruth_depth").glob("*.png"))
            files = [
                _Files(root / "image" / path.name.replace("groundtruth_depth", "image"), path)
                for path in depths
            ]
        else:
            found = sorted(path for path in files_below(root) if _DEPTH_MAP.search(path.as_posix()))
            files = [_Files(_picture_of(root, path), path) for path in found]
        super().__init__(
            [(name_of(pair.image, root), pair) for pair in files],
            f"data.root {root}: no KITTI sample (.../proj_depth/groundtruth/image_02/*.png); name a split file",
        )

    def _load(self, name: str, entry: _Files) -> Sample:
        truth = mark_invalid(read_numbers(entry.depth) / _SCALE)
        rgb = read_rgb(entry.image)
        if self._crop:
            rgb, truth = benchmark_crop(rgb, name), benchmark_crop(truth, name)
        return Sample(name, rgb, truth, None, _focal(entry.image) or entry.focal_px)


def benchmark_crop(values: np.ndarray, name: str) -> np.ndarray:
    """The lowest 352 rows and the middle 1216 columns. Raises InputError for less than that."""
    height, width = values.shape[:2]
    rows, columns = _CROP
    if height < rows or width < columns:
        raise InputError(
            f"{name}: {width} x {height} is too small for the benchmark crop; use data.benchmark_crop: false"
        )
    left = (width - columns) // 2
    return values[height - rows :, left : left + columns]


def _listed(root: Path, image: str, depth: str, focal: str | None = None) -> _Files:
    try:
        focal_px = None if focal is None else float(focal)
    except ValueError:  # a split file may hold anything else behind the two paths
        focal_px = None
    return _Files(
        _picture(root, image), first_file(*(below(root / folder, depth) for folder in _DEPTH)), focal_px
    )


def _picture(root: Path, listed: str) -> Path:
    """A raw picture: PNG as published, or the JPEG that many keep instead."""
    places = [below(root / folder, listed) for folder in _RAW]
    return first_file(*places, *(place.with_suffix(".jpg") for place in places))


def _picture_of(root: Path, depth: Path) -> Path:
    """The raw picture of a depth map, by drive, camera and frame."""
    drive, camera = depth.parents[3].name, depth.parent.name
    return _picture(root, f"{drive[:10]}/{drive}/{camera}/data/{depth.name}")


def _focal(image: Path) -> float | None:
    """From the calibration file of the day, or of a picture of the selection; None where it is not there."""
    own = image.parent.parent / "intrinsics" / f"{image.stem}.txt"
    if own.is_file():
        return _first_number(own, r"\A\s*(\S+)")
    camera = re.search(r"image_0([23])", str(image))
    days = [folder / "calib_cam_to_cam.txt" for folder in list(image.parents)[3:4]]
    if camera is None or not days or not days[0].is_file():
        return None
    return _first_number(days[0], rf"^P_rect_0{camera[1]}:\s*(\S+)")


def _first_number(path: Path, start: str) -> float | None:
    match = re.search(start, read_text(path), re.MULTILINE)
    try:
        return float(match[1]) if match else None
    except ValueError as error:
        raise InputError(f"{path}: the focal length is no number") from error
