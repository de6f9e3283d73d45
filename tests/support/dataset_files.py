"""Small data sets in their published layouts: photographs, depth, disparity, lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from prv2cli.datasets.layouts import MeasuredData, open_data

SIZE = (6, 8)


def opened(**config: Any) -> Any:
    """The data set of a configuration as a file would say it."""
    return open_data(TypeAdapter(MeasuredData).validate_python(config))


def picture(
    path: Path, size: tuple[int, int] = SIZE, colour: tuple[int, int, int] = (10, 20, 30)
) -> np.ndarray:
    """Write a picture of one colour with a white pixel at the top left."""
    pixels = np.full((*size, 3), colour, np.uint8)
    pixels[0, 0] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def png16(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers.astype(np.uint16)).save(path)


def npy(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, numbers)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def ramp(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)


DRIVE = "2011_09_26_drive_0002_sync"


def kitti(root: Path, raw: str, depth: str, size: tuple[int, int] = (375, 1242)) -> np.ndarray:
    """Depth that says where it is: row + column / 1000 + 1 metres at every fifth pixel."""
    y, x = np.mgrid[: size[0], : size[1]]
    metres = np.where((y + x) % 5 == 0, 1 + y / 8 + x / 256, 0)
    png16(root / depth / DRIVE / "proj_depth/groundtruth/image_02/0000000069.png", np.round(metres * 256))
    day = root / raw / "2011_09_26"
    picture(day / DRIVE / "image_02/data/0000000069.png", size)
    text(day / "calib_cam_to_cam.txt", "calib_time: 09\nP_rect_02: 7.215377e+02 0 6.09e+02 4.4e+01\n")
    return metres
