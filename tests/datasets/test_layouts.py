"""Data sets in their published layouts: small trees as the publishers lay them out, truth from closed forms."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from prv2cli.datasets import hypersim, layouts
from prv2cli.datasets.layouts import DataConfig, open_data
from prv2cli.datasets.samples import (
    Readable,
    Sample,
    bilinear,
    disparity_to_depth,
    left_out,
    nearest,
    planar_depth,
)
from prv2cli.depth_files.metadata import DepthMetadata
from prv2cli.depth_files.read import write_depth
from prv2cli.errors import InputError, MissingExtraError, Prv2Error, UsageError

SIZE = (6, 8)


def opened(**config: Any) -> Any:
    """The data set of a configuration as a file would say it."""
    return open_data(TypeAdapter(DataConfig).validate_python(config))


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


def pfm(path: Path, numbers: np.ndarray) -> None:
    """Rows from the bottom up, little-endian, as the publishers write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"Pf\n{numbers.shape[1]} {numbers.shape[0]}\n-1.0\n".encode()
    path.write_bytes(head + numbers[::-1].astype("<f4").tobytes())


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def ramp(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)


# --- UnrealStereo4K -------------------------------------------------------------------------------------------


def unreal(root: Path, scene: str = "00000", frame: str = "00003", suffix: str = ".png") -> np.ndarray:
    disparity = ramp(4, 50)
    npy(root / scene / "Disp0" / f"{frame}.npy", disparity)
    for camera, x in ((0, "1.25"), (1, "1.05")):  # 0.2 m apart
        line = f"1 0 0 {x} 0 1 0 2 0 0 1 3\n"
        text(root / scene / f"Extrinsics{camera}" / f"{frame}.txt", f"2000.0 0 4 0 2000.0 3 0 0 1\n{line}")
    image = root / scene / "Image0" / f"{frame}.png"
    pixels = picture(image)
    if suffix == ".raw":
        image.with_suffix(".raw").write_bytes(pixels[..., ::-1].tobytes())  # blue first
        image.unlink()
    return disparity


@pytest.mark.parametrize("suffix", [".png", ".raw"])
def test_unrealstereo4k(tmp_path: Path, suffix: str) -> None:
    disparity = unreal(tmp_path, suffix=suffix)
    stem = "00003"
    text(
        tmp_path / "splits" / "test.txt",
        f"/00000/Image0/{stem}.png /00000/Image1/{stem}.png /00000/Disp0/{stem}.npy /00000/Disp1/{stem}.npy\n",
    )
    for split in ("test", "splits/test.txt", str(tmp_path / "splits" / "test.txt"), None):
        data = opened(layout="unrealstereo4k", root=tmp_path, split=split)
        assert list(data.names) == ["00000/Image0/00003"]
        sample = data[0]
        np.testing.assert_allclose(sample.truth, 0.2 * 2000 / disparity, rtol=1e-6)
        np.testing.assert_array_equal(sample.disparity, disparity)
        assert sample.focal_px == 2000
        assert sample.rgb[0, 0].tolist() == [255, 255, 255]
        assert sample.rgb[1, 1].tolist() == [10, 20, 30]  # red first


def test_unrealstereo4k_says_what_is_wrong(tmp_path: Path) -> None:
    unreal(tmp_path, suffix=".raw")
    data = opened(layout="unrealstereo4k", root=tmp_path)
    raw = tmp_path / "00000/Image0/00003.raw"
    raw.write_bytes(raw.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"00003\.raw: 143 bytes are no picture of 8 x 6"):
        data[0]
    text(tmp_path / "00000/Extrinsics1/00003.txt", "2000 0 4\n1 0\n")
    with pytest.raises(InputError, match=r"Extrinsics1.00003\.txt: expected the focal length"):
        data[0]
    (tmp_path / "00000/Extrinsics0/00003.txt").unlink()
    with pytest.raises(InputError, match=r"Extrinsics0.00003\.txt: no such file"):
        data[0]
    text(tmp_path / "short.txt", "\n/00000/Image0/00003.png x\n")
    with pytest.raises(InputError, match=r"short\.txt, line 2: expected left picture, right picture"):
        opened(layout="unrealstereo4k", root=tmp_path, split="short")


# --- Cityscapes -----------------------------------------------------------------------------------------------

CITY_SIZE = (16, 32)


def city(root: Path, folder: str = "val", labels: bool = False) -> np.ndarray:
    """Stored disparities; the camera's baseline times focal length is 0.25 * 2000."""
    stored = np.linspace(5000, 40000, CITY_SIZE[0] * CITY_SIZE[1]).reshape(CITY_SIZE).astype(np.uint16)
    stored[2, 5], stored[2, 6] = 0, 1  # unknown, and infinitely far
    stem = f"{folder}/ulm/ulm_000001_000019"
    picture(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", CITY_SIZE)
    png16(root / "disparity" / f"{stem}_disparity.png", stored)
    camera = {"extrinsic": {"baseline": 0.25}, "intrinsic": {"fx": 2000.0, "fy": 2000.0}}
    text(root / "camera" / f"{stem}_camera.json", json.dumps(camera))
    if labels:
        colours = np.zeros((*CITY_SIZE, 3), np.uint8)
        colours[0, 4:8] = (70, 130, 180)
        path = root / "gtFine" / f"{stem}_gtFine_color.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(colours).save(path)
    return stored


@pytest.mark.parametrize("labels", [False, True])
def test_cityscapes(tmp_path: Path, labels: bool) -> None:
    stored = city(tmp_path, labels=labels)
    sample = opened(layout="cityscapes", root=tmp_path)[0]
    expected = 0.25 * 2000 / ((stored.astype(float) - 1) / 256 + 1e-300)
    expected[2, 5:7] = np.nan
    expected[12:] = np.nan  # the lowest quarter
    expected[:, :2] = expected[:, 30:] = np.nan  # a sixteenth at each side
    if labels:
        expected[0, 4:8] = np.nan
    np.testing.assert_allclose(sample.truth, expected, rtol=1e-6)
    assert (sample.name, sample.focal_px) == ("leftImg8bit/val/ulm/ulm_000001_000019_leftImg8bit", 2000)
    whole = opened(layout="cityscapes", root=tmp_path, trim=False)[0].truth
    assert np.isnan(whole).sum() == 2 + 4 * labels


def test_cityscapes_below_a_folder_of_the_same_name(tmp_path: Path) -> None:
    city(tmp_path / "leftImg8bit")
    assert opened(layout="cityscapes", root=tmp_path / "leftImg8bit")[0].valid.any()


def test_cityscapes_split_file(tmp_path: Path) -> None:
    city(tmp_path, "train")
    line = "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png disparity/x.png\n"
    text(tmp_path / "mine.txt", line)
    assert opened(layout="cityscapes", root=tmp_path, split="mine")[0].valid.any()
    with pytest.raises(UsageError, match=r"data\.split val: neither a file nor a list"):
        opened(layout="cityscapes", root=tmp_path)
    text(tmp_path / "camera/train/ulm/ulm_000001_000019_camera.json", '{"intrinsic": {"fx": 3}}')
    with pytest.raises(InputError, match=r"camera\.json: no intrinsic\.fx and extrinsic\.baseline"):
        opened(layout="cityscapes", root=tmp_path, split="train")[0]


# --- KITTI ----------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("raw", "depth"),
    [("raw", "depth"), ("input", "gt_depth"), ("", "data_depth_annotated/val"), ("", "train")],
)
def test_kitti_with_the_benchmark_crop(tmp_path: Path, raw: str, depth: str) -> None:
    metres = kitti(tmp_path, raw, depth)
    frame = f"2011_09_26/{DRIVE}/image_02/data/0000000069.png"
    truth = f"{DRIVE}/proj_depth/groundtruth/image_02/0000000069.png"
    text(tmp_path / "eigen.txt", f"{frame} {truth} 721.5377\n2011_09_26/other.png None 721.5377\n")
    for split in ("eigen", None):
        data = opened(layout="kitti", root=tmp_path, split=split)
        assert len(data) == 1
        sample = data[0]
        window = metres[375 - 352 :, 13 : 13 + 1216]
        np.testing.assert_allclose(sample.truth, np.where(window > 0, window, np.nan), atol=1 / 256)
        assert sample.rgb.shape == (352, 1216, 3)
        assert sample.focal_px == pytest.approx(721.5377)
    assert opened(layout="kitti", root=tmp_path, benchmark_crop=False)[0].truth.shape == (375, 1242)


def test_kitti_selection(tmp_path: Path) -> None:
    picture(tmp_path / "image" / f"{DRIVE}_image_0000000005_image_02.png")
    png16(
        tmp_path / "groundtruth_depth" / f"{DRIVE}_groundtruth_depth_0000000005_image_02.png", ramp(256, 2560)
    )
    sample = opened(layout="kitti", root=tmp_path, benchmark_crop=False)[0]
    np.testing.assert_allclose(sample.truth, ramp(1, 10), atol=1 / 256)
    assert sample.focal_px is None
    matrix = "721.5 0 609.5 0 721.5 172.8 0 0 1"
    text(tmp_path / "intrinsics" / f"{DRIVE}_image_0000000005_image_02.txt", matrix)
    assert opened(layout="kitti", root=tmp_path, benchmark_crop=False)[0].focal_px == 721.5
    with pytest.raises(
        InputError, match=r"8 x 6 is too small for the benchmark crop; use data\.benchmark_crop"
    ):
        opened(layout="kitti", root=tmp_path)[0]


def test_kitti_jpeg_pictures_and_the_focal_length_of_the_list(tmp_path: Path) -> None:
    kitti(tmp_path, "raw", "depth")
    day = tmp_path / "raw/2011_09_26"
    image = day / DRIVE / "image_02/data/0000000069.png"
    Image.open(image).save(image.with_suffix(".jpg"))
    image.unlink()
    (day / "calib_cam_to_cam.txt").unlink()
    frame = f"2011_09_26/{DRIVE}/image_02/data/0000000069.png"
    truth = f"{DRIVE}/proj_depth/groundtruth/image_02/0000000069.png"
    text(tmp_path / "list.txt", f"{frame} {truth} 700.5\n{frame} {truth}\n{frame} {truth} none\n")
    data = opened(layout="kitti", root=tmp_path, split="list")
    assert [data[i].focal_px for i in range(3)] == [700.5, None, None]
    assert opened(layout="kitti", root=tmp_path)[0].rgb.shape == (352, 1216, 3)


def test_folders_behind_links_are_looked_into_and_loops_end(tmp_path: Path) -> None:
    kitti(tmp_path / "disk", "raw", "depth")
    root = tmp_path / "kitti"
    root.mkdir()
    for name in ("raw", "depth"):
        (root / name).symlink_to(tmp_path / "disk" / name)
    (root / "depth" / "again").symlink_to(root / "depth")
    (root / "nowhere").symlink_to("nowhere")
    data = opened(layout="kitti", root=root)
    assert list(data.names) == [f"raw/2011_09_26/{DRIVE}/image_02/data/0000000069"]
    assert data[0].valid.any()


# --- ScanNet++ ------------------------------------------------------------------------------------------------


def scannet(root: Path, scene: str, device: str, image: str, depth: str) -> None:
    picture(root / "data" / scene / device / image, (12, 16))
    png16(root / "data" / scene / device / depth, ramp(1000, 5000))
    camera = {"fl_x": 100.0, "w": 8}
    text(root / "data" / scene / device / "nerfstudio/transforms.json", json.dumps(camera))


def test_scannetpp(tmp_path: Path) -> None:
    scannet(tmp_path, "aa11", "iphone", "rgb/frame_000010.jpg", "render_depth/frame_000010.png")
    scannet(tmp_path, "bb22", "iphone", "rgb/frame_000020.jpg", "render_depth/frame_000020.png")
    scannet(tmp_path, "bb22", "dslr", "resized_images/DSC00001.JPG", "render_depth/DSC00001.png")
    text(tmp_path / "splits/nvs_sem_val.txt", "bb22\n")
    everything = opened(layout="scannetpp", root=tmp_path)
    assert list(everything.names) == ["aa11/iphone/rgb/frame_000010", "bb22/iphone/rgb/frame_000020"]
    split = opened(layout="scannetpp", root=tmp_path, split="nvs_sem_val")
    assert list(split.names) == ["bb22/iphone/rgb/frame_000020"]
    sample = split[0]
    # Each depth of the smaller map fills two by two pixels of the picture.
    np.testing.assert_allclose(sample.truth, np.kron(ramp(1, 5), np.ones((2, 2))), atol=1e-3)
    assert sample.focal_px == 200
    camera = opened(layout="scannetpp", root=tmp_path, device="dslr")
    assert camera[0].name == "bb22/dslr/resized_images/DSC00001"
    text(
        tmp_path / "pairs.txt",
        "data/aa11/iphone/rgb/frame_000010.jpg data/aa11/iphone/render_depth/frame_000010.png\n",
    )
    assert opened(layout="scannetpp", root=tmp_path, split="pairs")[0].truth.shape == (12, 16)
    text(tmp_path / "more.txt", "aa11\ncc33\n")
    told: list[str] = []
    assert len(list(Readable(opened(layout="scannetpp", root=tmp_path, split="more"), told.append))) == 1
    assert len(told) == 1  # a scene of the list that is not there
    assert "cc33" in told[0]
    text(tmp_path / "mixed.txt", "aa11\na.jpg b.png\n")
    with pytest.raises(InputError, match=r"mixed: some lines are scenes and some are pairs"):
        opened(layout="scannetpp", root=tmp_path, split="mixed")


# --- Hypersim -------------------------------------------------------------------------------------------------

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
    monkeypatch.setattr(hypersim.importlib, "import_module", _not_installed)
    with pytest.raises(MissingExtraError, match=r"prv2cli\[train\]"):
        opened(layout="hypersim", root=tmp_path)


def _not_installed(name: str) -> Any:
    raise builtins.ImportError(name)


# --- Middlebury -----------------------------------------------------------------------------------------------

CALIBRATION = """cam0=[3997.684 0 1176.728; 0 3997.684 1011.728; 0 0 1]
cam1=[3997.684 0 1307.839; 0 3997.684 1011.728; 0 0 1]
doffs=131.111
baseline=193.001
width=2964
height=1988
ndisp=280
"""


@pytest.mark.parametrize("name", ["disp0.pfm", "disp0GT.pfm"])
def test_middlebury(tmp_path: Path, name: str) -> None:
    disparity = ramp(-3, 260)  # below 0 is fine where the principal points differ
    disparity[1, 2] = np.inf
    scene = tmp_path / "Adirondack-perfect"
    picture(scene / "im0.png")
    pfm(scene / name, disparity)
    text(scene / "calib.txt", CALIBRATION)
    data = opened(layout="middlebury", root=tmp_path)
    assert list(data.names) == ["Adirondack-perfect/im0"]
    sample = data[0]
    expected = 0.193001 * 3997.684 / (disparity.astype(float) + 131.111)
    expected[1, 2] = np.nan
    np.testing.assert_allclose(sample.truth, expected, rtol=1e-6)
    assert np.isnan(sample.disparity[1, 2])
    assert sample.disparity[0, 0] == -3  # the top row, not the bottom one
    assert sample.focal_px == pytest.approx(3997.684)
    text(tmp_path / "mine.txt", "Adirondack-perfect\n")
    assert len(opened(layout="middlebury", root=tmp_path, split="mine")) == 1
    text(scene / "calib.txt", "cam0=[3997.684 0 1; 0 1 1; 0 0 1]\nbaseline=193\n")
    with pytest.raises(InputError, match=r"calib\.txt: no doffs="):
        data[0]


# --- folder, manifest, procedural -----------------------------------------------------------------------------


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


def test_procedural_is_the_scene_of_its_seed() -> None:
    pytest.importorskip("cv2")
    from prv2cli.scenes.make import make_scene

    data = opened(layout="procedural", scenes=3, size=64, seed=5)
    assert len(data) == 3
    scene = make_scene((5, 2), 64)
    np.testing.assert_array_equal(data[2].truth, scene.depth)
    np.testing.assert_array_equal(data[2].rgb, scene.rgb)
    assert (data[1].rgb != data[2].rgb).any()


# --- all of them ----------------------------------------------------------------------------------------------


ALL_LAYOUTS = [kind.model_fields["layout"].default for kind in layouts._LAYOUTS]


@pytest.mark.parametrize("name", [name for name in ALL_LAYOUTS if name not in ("procedural", "manifest")])
def test_an_empty_folder_and_a_missing_one(tmp_path: Path, name: str) -> None:
    if name == "folder":
        (tmp_path / "images").mkdir()
        (tmp_path / "depth").mkdir()
    if name == "cityscapes":
        (tmp_path / "leftImg8bit/val").mkdir(parents=True)
    with pytest.raises(InputError, match=r"data\.root .*: no "):
        opened(layout=name, root=tmp_path)
    with pytest.raises(UsageError, match=r"data\.root .*none: no such folder"):
        opened(layout=name, root=tmp_path / "none")


def test_an_unknown_layout_or_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'kitti', 'scannetpp'"):
        opened(layout="kity", root=tmp_path)
    with pytest.raises(ValidationError, match="no such setting; did you mean split"):
        opened(layout="kitti", root=tmp_path, splt="x")


def test_broken_samples_are_told_once_and_left_out(tmp_path: Path) -> None:
    breaks: dict[str, Callable[[Path], object]] = {
        "b": lambda root: (root / "images/b.png").write_bytes(b"\x89PNG\r\n\x1a\n"),
        "c": lambda root: (root / "depth/c.png").unlink(),
        "d": lambda root: picture(root / "images/d.png", (5, 5)),
        "e": lambda root: png16(root / "depth/e.png", np.zeros(SIZE)),
    }
    for name in "abcdef":
        picture(tmp_path / f"images/{name}.png")
        png16(tmp_path / f"depth/{name}.png", ramp(256, 512))
    for spoil in breaks.values():
        spoil(tmp_path)
    told: list[str] = []
    readable = Readable(opened(layout="folder", root=tmp_path, scale=256), told.append)
    for _ in range(2):
        assert [sample.name for sample in readable] == ["a", "f"]
    assert [line.split(" is left out: ")[0] for line in told] == list(breaks)
    assert "\n" not in left_out("a\n\x1b[2Jb", InputError("c"))
    assert "5 x 5 and its depth 8 x 6" in readable.broken["d"]
    assert list(readable.broken) == list(breaks)
    assert [s.name for s in Readable(opened(layout="folder", root=tmp_path, scale=256), told.append, 1)] == [
        "a"
    ]


def test_a_missing_unit_is_no_broken_sample(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    png16(tmp_path / "depth/a.png", ramp(256, 512))
    told: list[str] = []
    with pytest.raises(Prv2Error, match=r"data\.scale"):
        list(Readable(opened(layout="folder", root=tmp_path), told.append))
    assert not told


# --- arithmetic -----------------------------------------------------------------------------------------------


def test_disparity_to_depth_knows_what_is_no_depth() -> None:
    disparity = np.array([[10, 0, -5, np.nan, np.inf, 1e-45]], np.float32)
    depth = disparity_to_depth(disparity, 100.0, 0.5)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, [[5, np.nan, np.nan, np.nan, np.nan, np.nan]])


def test_planar_depth_of_rays_of_any_length() -> None:
    rays = np.array([[[0, 0, -2.0], [3, 0, -4], [0, 6, 8]]])
    np.testing.assert_allclose(planar_depth(np.array([[7.0, 5, 10]]), rays), [[7, 4, 8]])


def test_bilinear_is_exact_on_planes_and_keeps_holes_small() -> None:
    y, x = np.mgrid[:6, :8]
    plane = (2 * x + 3 * y + 1).astype(np.float32)
    larger = bilinear(plane, (12, 24))
    rows, columns = (np.arange(12) + 0.5) / 2 - 0.5, (np.arange(24) + 0.5) / 3 - 0.5
    expected = 2 * columns.clip(0, 7)[None] + 3 * rows.clip(0, 5)[:, None] + 1
    np.testing.assert_allclose(larger, expected, rtol=1e-6)
    plane[0, 0] = np.nan
    # Three rows and four columns of the larger map lie less than a pixel from the hole.
    assert np.isnan(bilinear(plane, (12, 24))).sum() == 3 * 4
    np.testing.assert_array_equal(bilinear(plane, (6, 8)), plane)
    np.testing.assert_array_equal(bilinear(np.ones((1, 1)), (3, 2)), np.ones((3, 2)))


def test_nearest_takes_the_pixel_below_the_centre() -> None:
    values = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(nearest(values, (4, 6)), np.kron(values, np.ones((2, 2))))
    np.testing.assert_array_equal(nearest(values, (1, 1)), [[4]])


def test_a_sample_knows_its_valid_pixels() -> None:
    truth = np.array([[1, np.nan]], np.float32)
    assert Sample("a", np.zeros((1, 2, 3), np.uint8), truth).valid.tolist() == [[True, False]]
