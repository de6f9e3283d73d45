"""UnrealStereo4K in its published layout, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import npy, opened, picture, ramp, text

from prv2cli.errors import InputError


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
