"""MPI Sintel depth (Butler et al., ECCV 2012; depth since 2015): an animated film, 1024 x 436.

    training/final/<sequence>/frame_0001.png           or clean/, without blur and fog
    training/depth/<sequence>/frame_0001.dpt           the number 202021.25, width, height, float32 metres
    training/camdata_left/<sequence>/frame_0001.cam    the same number, 3 x 3 and 3 x 4 float64, little-endian

The depth archive and the film's are unpacked into one folder. Nothing says where the sky is: it is far away, and left
out by the cap on depth.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import numpy as np

from prv2cli.datasets.arrays import read_bytes
from prv2cli.datasets.samples import FloatMap, ListedData, Sample, check_root, mark_invalid, name_of, read_rgb
from prv2cli.errors import InputError
from prv2cli.settings import Settings

_TAG = struct.pack("<f", 202021.25)
_HEADER = struct.Struct("<4sii")  # tag, width, height
_CAMERA = struct.Struct("<4s9d12d")


class SintelData(Settings):
    """`render`: which pictures."""

    layout: Literal["sintel"] = "sintel"
    root: Path
    render: Literal["final", "clean"] = "final"


class Sintel(ListedData[Path]):
    """The frames of the training part that have depth; the test part has none."""

    def __init__(self, config: SintelData) -> None:
        root = check_root(config.root)
        self._base = root / "training" if (root / "training").is_dir() else root
        pictures = [
            self._base / config.render / path.parent.name / f"{path.stem}.png"
            for path in sorted((self._base / "depth").glob("*/*.dpt"))
        ]
        super().__init__(
            [(name_of(picture, root), picture) for picture in pictures],
            f"data.root {root}: no depth of MPI Sintel (training/depth/<sequence>/*.dpt)",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        frame = f"{entry.parent.name}/{entry.stem}"
        truth = _read_depth(self._base / "depth" / f"{frame}.dpt")
        focal = _read_focal(self._base / "camdata_left" / f"{frame}.cam")
        return Sample(name, read_rgb(entry), truth, None, focal)


def _read_depth(path: Path) -> FloatMap:
    """(H, W) metres. Raises InputError."""
    data = read_bytes(path)
    tag, width, height = _HEADER.unpack(data[: _HEADER.size].ljust(_HEADER.size, b"\0"))
    if tag != _TAG:
        raise InputError(f"{path}: not a depth map of MPI Sintel")
    if min(width, height) < 1 or len(data) != _HEADER.size + 4 * width * height:
        raise InputError(f"{path}: {len(data)} bytes are no map of {width} x {height}")
    return mark_invalid(np.frombuffer(data, "<f4", offset=_HEADER.size).reshape(height, width))


def _read_focal(path: Path) -> float | None:
    """px; None where the cameras were not unpacked."""
    if not path.is_file():
        return None
    data = read_bytes(path)
    if len(data) != _CAMERA.size or not data.startswith(_TAG):
        raise InputError(f"{path}: not a camera of MPI Sintel")
    return float(_CAMERA.unpack(data)[1])
