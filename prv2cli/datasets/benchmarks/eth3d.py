"""ETH3D high resolution (Schoeps et al., CVPR 2017): rooms and yards, 24 megapixels, with depth of a laser scanner.

    <scene>/images/dslr_images/DSC_0286.JPG                 as photographed
    <scene>/ground_truth_depth/dslr_images/DSC_0286.JPG     no picture: float32 metres row by row, little-endian, of
                                                            the photograph's size; infinite = not measured
    <scene>/dslr_calibration_jpg/cameras.txt, images.txt    COLMAP's: size and fx of the camera, camera of a picture

The archives *_dslr_jpg and *_dslr_depth of the training scenes, unpacked into one folder. Depth goes with the
photographs as they are, with the lens's distortion; not with the undistorted ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from prv2cli.datasets.arrays import read_bytes
from prv2cli.datasets.samples import (
    FloatMap,
    ListedData,
    Sample,
    check_root,
    mark_invalid,
    name_of,
    read_rgb,
    read_text,
)
from prv2cli.errors import InputError
from prv2cli.settings import Settings

_IMAGES = "images/dslr_images"
_DEPTHS = "ground_truth_depth/dslr_images"


class Eth3dData(Settings):
    """`root`: the folder of the scenes."""

    layout: Literal["eth3d"] = "eth3d"
    root: Path


class _Camera(NamedTuple):
    width: int
    height: int
    focal_px: float


class Eth3d(ListedData[Path]):
    """The photographs of every scene that has depth."""

    def __init__(self, config: Eth3dData) -> None:
        root = check_root(config.root)
        depths = sorted(root.glob(f"*/{_DEPTHS}/*.JPG"))
        super().__init__(
            [(name_of(_picture(path), root), path) for path in depths],
            f"data.root {root}: no depth of ETH3D (<scene>/{_DEPTHS}/*.JPG)",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        rgb = read_rgb(_picture(entry))
        camera = _camera(entry)
        if camera is not None and rgb.shape[:2] != (camera.height, camera.width):
            raise InputError(
                f"{_picture(entry)}: {rgb.shape[1]} x {rgb.shape[0]}, and its camera's pictures are "
                f"{camera.width} x {camera.height}; take the photographs as published"
            )
        focal = None if camera is None else camera.focal_px
        return Sample(name, rgb, _read_depth(entry, rgb.shape[:2]), None, focal)


def _picture(depth: Path) -> Path:
    return depth.parents[2] / _IMAGES / depth.name


def _read_depth(path: Path, size: tuple[int, ...]) -> FloatMap:
    """(H, W) metres from bytes without any header: `size` is that of the photograph."""
    data = read_bytes(path)
    if len(data) != 4 * size[0] * size[1]:
        raise InputError(f"{path}: {len(data)} bytes are no depth of {size[1]} x {size[0]} (float32)")
    return mark_invalid(np.frombuffer(data, "<f4").reshape(size))


def _camera(depth: Path) -> _Camera | None:
    """The camera of a picture; None where the calibration is not there, or does not know the picture."""
    folder = depth.parents[2] / "dslr_calibration_jpg"
    if not (folder / "images.txt").is_file():
        return None
    # Two lines a picture: number, pose (7), camera, name; and the points seen, which do not matter here.
    used = {words[9]: words[8] for words in _words(folder / "images.txt") if len(words) == 10}
    key = used.get(f"{depth.parent.name}/{depth.name}")
    path = folder / "cameras.txt"
    try:
        cameras = {words[0]: _Camera(int(words[2]), int(words[3]), float(words[4])) for words in _words(path)}
    except (IndexError, ValueError) as error:
        raise InputError(f"{path}: not a list of cameras (number, model, width, height, fx, ...)") from error
    return cameras.get(key) if key is not None else None


def _words(path: Path) -> list[list[str]]:
    return [line.split() for line in read_text(path).splitlines() if line.strip() and line[0] != "#"]
