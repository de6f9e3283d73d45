"""Hypersim in its published layout, written here."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import opened, picture, text

from prv2cli import extras
from prv2cli.datasets.papers import hypersim
from prv2cli.errors import InputError, MissingExtraError, UsageError

ROOM = (12, 16)


def hyper(root: Path, scene: str, distance: np.ndarray, frame: int = 7) -> None:
    h5py = pytest.importorskip("h5py")
    images = root / scene / "images"
    picture(images / "scene_cam_00_final_preview" / f"frame.{frame:04d}.tonemap.jpg", ROOM)
    folder = images / "scene_cam_00_geometry_hdf5"
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"frame.{frame:04d}.depth_meters.hdf5", "w") as file:
        file["dataset"] = distance.astype(np.float16)


def wall_distance(cx: float, cy: float, focal: float, depth: float) -> np.ndarray:
    """Distances to a wall that is `depth` metres away along the axis, of a pinhole camera, by Pythagoras."""
    y, x = np.mgrid[: ROOM[0], : ROOM[1]]
    return depth * np.sqrt(((x - cx) / focal) ** 2 + ((y - cy) / focal) ** 2 + 1)


def test_hypersim_makes_distances_into_depth(tmp_path: Path) -> None:
    focal = 8 / np.tan(np.pi / 6)  # 60 degrees across 16 pixels
    distance = wall_distance(7.5, 5.5, focal, 3.0)
    distance[0, 0] = np.nan
    hyper(tmp_path, "ai_001_001", distance)
    data = opened(layout="hypersim", root=tmp_path)
    assert list(data.names) == ["ai_001_001/images/scene_cam_00_final_preview/frame.0007"]
    sample = data[0]
    assert np.isnan(sample.truth[0, 0])
    np.testing.assert_allclose(sample.truth.ravel()[1:], 3, rtol=1e-3)  # half floats
    assert sample.focal_px == pytest.approx(focal)


def test_hypersim_tilted_lens(tmp_path: Path) -> None:
    """The sensor leans by 20 degrees: its pixels lie on a slanted plane, and the rays go through them."""
    y, x = np.mgrid[: ROOM[0], : ROOM[1]]
    u, v = (x + 0.5) / 8 - 1, 1 - (y + 0.5) / 6
    lean = np.deg2rad(20)
    pixels = np.stack([0.8 * u, 0.6 * np.cos(lean) * v, -1 + 0.6 * np.sin(lean) * v], axis=-1)
    wall = pixels * (4.0 / -pixels[..., 2:])  # where each ray meets a wall 4 m ahead
    hyper(tmp_path, "ai_001_004", np.linalg.norm(wall, axis=-1))
    matrix = [0.8, 0, 0, 0, 0.6 * np.cos(lean), 0, 0, 0.6 * np.sin(lean), -1.0]
    keys = [f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)]
    text(
        tmp_path / hypersim.CAMERA_FILE,
        f"scene_name,{','.join(keys)}\nai_001_004,{','.join(map(str, matrix))}\n",
    )
    np.testing.assert_allclose(opened(layout="hypersim", root=tmp_path)[0].truth, 4, rtol=1e-3)


def test_hypersim_cameras_and_split(tmp_path: Path) -> None:
    # A lens shifted by 3 pixels to the right and 2 down, of focal length 10 px.
    hyper(tmp_path, "ai_001_002", wall_distance(7.5 + 3, 5.5 + 2, 10, 4.0))
    hyper(tmp_path, "ai_001_003", wall_distance(7.5, 5.5, 10, 4.0), frame=0)
    matrix = [0.8, 0, -0.3, 0, 0.6, 0.2, 0, 0, -1.0]
    keys = [f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)]
    rows = [["scene_name", *keys], ["ai_001_002", *map(str, matrix)]]
    text(tmp_path / hypersim.CAMERA_FILE, "\n".join(",".join(row) for row in rows))
    text(
        tmp_path / hypersim.SPLIT_FILE,
        "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name\n"
        "ai_001_002,cam_00,7,True,,test\nai_001_002,cam_00,8,False,people,\nai_001_003,cam_00,0,True,,train\n",
    )
    data = opened(layout="hypersim", root=tmp_path, split="test")
    assert [name[:10] for name in data.names] == ["ai_001_002"]
    np.testing.assert_allclose(data[0].truth, 4, rtol=1e-3)
    assert data[0].focal_px == pytest.approx(10)
    text(tmp_path / hypersim.CAMERA_FILE, "scene_name\nai_001_002\n")
    with pytest.raises(InputError, match=r"metadata_camera_parameters\.csv: not Hypersim's"):
        opened(layout="hypersim", root=tmp_path)
    (tmp_path / hypersim.SPLIT_FILE).unlink()
    with pytest.raises(UsageError, match=r"metadata_images_split_scene_v1\.csv is missing"):
        opened(layout="hypersim", root=tmp_path, split="test")


def test_hypersim_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hyper(tmp_path, "ai_001_001", np.ones(ROOM))
    data = opened(layout="hypersim", root=tmp_path)
    (path,) = tmp_path.rglob("*.hdf5")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"depth_meters\.hdf5: damaged, or no HDF5 file"):
        data[0]
    monkeypatch.setattr(extras.importlib, "import_module", _not_installed)
    with pytest.raises(MissingExtraError, match=r"prv2cli\[train\]"):
        opened(layout="hypersim", root=tmp_path)


def _not_installed(name: str) -> Any:
    raise builtins.ImportError(name)
