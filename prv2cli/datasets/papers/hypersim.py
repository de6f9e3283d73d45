"""Hypersim (Roberts et al., ICCV 2021): rendered rooms, 1024 x 768, in HDF5. Needs h5py (extra `train`).

    ai_001_001/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg
    ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5    dataset "dataset", (768, 1024)
    metadata_images_split_scene_v1.csv     the official split: scene_name, camera_name, frame_id, ...
    metadata_camera_parameters.csv         optional: the camera of each scene (some are tilted lenses)

`depth_meters` is misnamed: it holds distances to the camera's centre. Depth is what lies along the optical axis.
Without the camera parameters every scene is taken for the usual camera of 60 degrees.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from prv2cli.datasets.arrays import read_hdf5
from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    name_of,
    planar_depth,
    read_rgb,
    read_text,
)
from prv2cli.errors import InputError, UsageError
from prv2cli.extras import import_h5py
from prv2cli.settings import Settings

SPLIT_FILE = "metadata_images_split_scene_v1.csv"
CAMERA_FILE = "metadata_camera_parameters.csv"
_FIELD_OF_VIEW = math.pi / 3


class HypersimData(Settings):
    """`split`: train, val or test of the official split; None: every frame found."""

    layout: Literal["hypersim"] = "hypersim"
    root: Path
    split: Literal["train", "val", "test"] | None = None


class _Files(NamedTuple):
    scene: str
    image: Path
    distance: Path


class Hypersim(ListedData[_Files]):
    """The tone-mapped pictures of Hypersim with planar depth."""

    def __init__(self, config: HypersimData) -> None:
        root = check_root(config.root)
        import_h5py()  # said before anything is read
        frames = _found(root) if config.split is None else _listed(root, config.split)
        self._cameras = _read_cameras(root / CAMERA_FILE)
        super().__init__(
            [(name_of(files.image, root).removesuffix(".tonemap"), files) for files in frames],
            f"data.root {root}: no Hypersim frame (ai_*/images/scene_cam_*_geometry_hdf5/*.depth_meters.hdf5)",
        )

    def _load(self, name: str, entry: _Files) -> Sample:
        distance = read_hdf5(entry.distance, "dataset")
        camera = self._cameras.get(entry.scene)
        if camera is None:
            camera = usual_camera(distance.shape)
        truth = planar_depth(distance, camera_rays(camera, distance.shape))
        focal = distance.shape[1] / 2 / float(np.linalg.norm(camera[:, 0]))
        return Sample(name, read_rgb(entry.image), truth, None, focal)


def usual_camera(size: tuple[int, ...]) -> np.ndarray:
    """The 3 x 3 matrix from (u, v, 1) to a ray, of a camera with square pixels that sees 60 degrees across.

    u goes right and v up, both from -1 to 1; the camera looks along -z.
    """
    across = math.tan(_FIELD_OF_VIEW / 2)
    return np.diag([across, across * size[0] / size[1], -1.0])


def camera_rays(camera: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) rays through the pixels' centres."""
    height, width = size
    u = (np.arange(width) + 0.5) * (2 / width) - 1
    v = 1 - (np.arange(height) + 0.5) * (2 / height)
    across, up = np.meshgrid(u, v)
    return np.stack([across, up, np.ones_like(up)], axis=-1) @ camera.T


def _found(root: Path) -> list[_Files]:
    paths = sorted(root.glob("ai_*/images/scene_cam_*_geometry_hdf5/frame.*.depth_meters.hdf5"))
    return [_frame(path.parents[2], path.parent.name[6:12], int(path.name.split(".")[1])) for path in paths]


def _listed(root: Path, split: str) -> list[_Files]:
    path = root / SPLIT_FILE
    if not path.is_file():
        raise UsageError(f"data.split {split}: {path} is missing; it comes with the Hypersim toolkit")
    try:
        return [
            _frame(root / row["scene_name"], row["camera_name"], int(row["frame_id"]))
            for row in csv.DictReader(io.StringIO(read_text(path)))
            if row["split_partition_name"] == split and row["included_in_public_release"].lower() == "true"
        ]
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise InputError(
            f"{path}: not Hypersim's split file (scene_name, camera_name, frame_id, ...)"
        ) from error


def _frame(scene: Path, camera: str, frame: int) -> _Files:
    stem = f"frame.{frame:04d}"
    return _Files(
        scene.name,
        scene / "images" / f"scene_{camera}_final_preview" / f"{stem}.tonemap.jpg",
        scene / "images" / f"scene_{camera}_geometry_hdf5" / f"{stem}.depth_meters.hdf5",
    )


def _read_cameras(path: Path) -> dict[str, np.ndarray]:
    """scene -> 3 x 3 matrix from (u, v, 1) to a ray; empty without the file."""
    if not path.is_file():
        return {}
    keys = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
    try:
        return {
            row["scene_name"]: np.array([float(row[key]) for key in keys]).reshape(3, 3)
            for row in csv.DictReader(io.StringIO(read_text(path)))
        }
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: not Hypersim's camera parameters (scene_name, M_cam_from_uv_00, ...)"
        ) from error
