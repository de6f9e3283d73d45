"""Booster (Zama Ramirez et al., CVPR 2022): rooms with mirrors and glass, 12 megapixels, with disparity.

    train/balanced/<scene>/camera_00/im0.png       the left pictures, one a lighting
    train/balanced/<scene>/disp_00.npy             their disparity, float32 px, 0 = unknown
    train/balanced/<scene>/calib_00-02.xml         OpenCV's format: proj_matL, fx first; baselineLR in millimetres
    a list                                         picture, disparity, calibration a line, below train/balanced

depth = baselineLR * fx / disparity. What the other camera does not see counts too: mask_00.png is for stereo.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    disparity_to_depth,
    listed_files,
    mark_invalid,
    name_of,
    read_numbers,
    read_rgb,
    read_text,
    split_lines,
)
from prv2cli.errors import InputError
from prv2cli.settings import Settings

_NUMBER = r"\s*([-+]?[0-9.]+(?:[eE][-+]?\d+)?)"
_FOCAL = re.compile(rf"<proj_matL\b.*?<data>{_NUMBER}", re.DOTALL)
_BASELINE = re.compile(rf"<baselineLR>{_NUMBER}")


class BoosterData(Settings):
    """`split`: a list of pictures with disparity and calibration. None: every left picture."""

    layout: Literal["booster"] = "booster"
    root: Path
    split: str | None = None


class _Files(NamedTuple):
    image: Path
    disparity: Path
    calibration: Path


class Booster(ListedData[_Files]):
    """The left pictures of the training scenes; the test scenes have no truth."""

    def __init__(self, config: BoosterData) -> None:
        root = check_root(config.root)
        places = (root / "train" / "balanced", root / "balanced", root)
        base = next(place for place in places if place.is_dir())
        if config.split is None:
            disparities = sorted(base.glob("*/disp_00.npy"))
            files = [
                _Files(image, path, path.with_name("calib_00-02.xml"))
                for path in disparities
                for image in sorted((path.parent / "camera_00").glob("*.png"))
            ]
        else:
            lines = split_lines(root, config.split, 3, "a picture, its disparity and calibration")
            files = [_Files(*paths) for paths in listed_files(lines, base, 0, 1, 2)]
        super().__init__(
            [(name_of(entry.image, root), entry) for entry in files],
            f"data.root {root}: no picture of Booster (train/balanced/<scene>/camera_00/*.png, disp_00.npy)",
        )

    def _load(self, name: str, entry: _Files) -> Sample:
        disparity = mark_invalid(read_numbers(entry.disparity))
        focal, baseline = _read_calibration(entry.calibration)
        truth = disparity_to_depth(disparity, focal, baseline)
        return Sample(name, read_rgb(entry.image), truth, disparity, focal)


def _read_calibration(path: Path) -> tuple[float, float]:
    """Focal length in px, baseline in metres."""
    text = read_text(path)
    focal, baseline = _FOCAL.search(text), _BASELINE.search(text)
    if focal is None or baseline is None:
        raise InputError(f"{path}: no proj_matL and baselineLR")
    try:
        return float(focal[1]), abs(float(baseline[1])) / 1000
    except ValueError as error:
        raise InputError(f"{path}: proj_matL or baselineLR is no number") from error
