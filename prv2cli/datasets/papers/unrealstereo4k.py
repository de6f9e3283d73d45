"""UnrealStereo4K (Tosi et al., SMD-Nets, CVPR 2021): rendered 3840 x 2160 stereo pairs with disparity.

    00000/Image0/00000.png | .raw     the left picture; .raw is (2160, 3840, 3) uint8, blue first
    00000/Disp0/00000.npy             its disparity, px
    00000/Extrinsics0/00000.txt       line 1: focal length in px, ...; line 2: a 3 x 4 matrix, row by row
    00000/Extrinsics1/00000.txt       the same of the right camera
    a split file                      left picture, right picture, left disparity, right disparity

depth = |x of one camera - x of the other| * focal length / disparity.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    disparity_to_depth,
    first_file,
    listed_files,
    mark_invalid,
    name_of,
    read_numbers,
    read_rgb,
    read_text,
    split_lines,
    unreadable,
)
from prv2cli.errors import InputError
from prv2cli.settings import Settings


class UnrealStereo4KData(Settings):
    """`split`: a split file, or its name below the root or root/splits. None: every left picture."""

    layout: Literal["unrealstereo4k"] = "unrealstereo4k"
    root: Path
    split: str | None = None


class _Files(NamedTuple):
    image: Path
    disparity: Path


class UnrealStereo4K(ListedData[_Files]):
    """The left pictures of UnrealStereo4K."""

    def __init__(self, config: UnrealStereo4KData) -> None:
        root = check_root(config.root)
        if config.split is None:
            disparities = sorted(root.glob("*/Disp0/*.npy"))
            files = [_Files(path.parents[1] / "Image0" / f"{path.stem}.png", path) for path in disparities]
        else:
            what = "left picture, right picture, left disparity, right disparity"
            lines = split_lines(root, config.split, 4, what, "splits")
            files = [_Files(*paths) for paths in listed_files(lines, root, 0, 2)]
        super().__init__(
            [(name_of(pair.image, root), pair) for pair in files],
            f"data.root {root}: no UnrealStereo4K sample (<scene>/Disp0/*.npy)",
        )

    def _load(self, name: str, entry: _Files) -> Sample:
        disparity = mark_invalid(read_numbers(entry.disparity))
        focal, baseline = _camera(entry.disparity)
        image = first_file(entry.image, entry.image.with_suffix(".raw"), entry.image.with_suffix(".png"))
        rgb = _read_raw(image, disparity.shape) if image.suffix == ".raw" else read_rgb(image)
        return Sample(name, rgb, disparity_to_depth(disparity, focal, baseline), disparity, focal)


def _read_raw(path: Path, size: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) uint8, red first, from bytes without any header: `size` is that of the disparity."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise unreadable(path, error) from error
    if data.size != size[0] * size[1] * 3:
        raise InputError(
            f"{path}: {data.size} bytes are no picture of {size[1]} x {size[0]}, as its disparity is"
        )
    return data.reshape(*size, 3)[..., ::-1]


def _camera(disparity: Path) -> tuple[float, float]:
    """Focal length in px and baseline in metres."""
    focal, left = _read_extrinsics(_beside(disparity, "Extrinsics0"))
    _, right = _read_extrinsics(_beside(disparity, "Extrinsics1"))
    return focal, abs(left - right)


def _beside(disparity: Path, folder: str) -> Path:
    return disparity.parents[1] / folder / f"{disparity.stem}.txt"


def _read_extrinsics(path: Path) -> tuple[float, float]:
    """The focal length in px and the camera's x in metres."""
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    try:
        return float(lines[0][0]), float(lines[1][3])
    except (IndexError, ValueError) as error:
        raise InputError(
            f"{path}: expected the focal length first and 12 numbers in the second line"
        ) from error
