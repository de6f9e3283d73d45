"""DIODE in its published layout, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, npy, opened, picture, ramp

from prv2cli.errors import InputError


def scan(root: Path, part: str) -> Path:
    base = root / f"val/{part}/scene_00019/scan_00183"
    stem = f"00019_00183_{part}_000_010"
    picture(base / f"{stem}.png")
    npy(base / f"{stem}_depth.npy", ramp(1, 30)[..., None])
    mask = np.ones(SIZE)
    mask[0, 3] = 0
    npy(base / f"{stem}_depth_mask.npy", mask)
    return base / f"{stem}_depth_mask.npy"


@pytest.mark.parametrize("kind", [np.float32, np.uint8, bool])
def test_diode(tmp_path: Path, kind: type) -> None:
    for part in ("indoors", "outdoor"):
        mask = scan(tmp_path, part)
        npy(mask, np.load(mask).astype(kind))
    data = opened(layout="diode", root=tmp_path)
    assert [name.split("/")[1] for name in data.names] == ["indoors", "outdoor"]
    expected = ramp(1, 30)
    expected[0, 3] = np.nan
    np.testing.assert_array_equal(data[0].truth, expected)
    assert data[0].focal_px == pytest.approx(886.81 * SIZE[1] / 1024)
    assert len(opened(layout="diode", root=tmp_path, part="outdoor")) == 1
    assert len(opened(layout="diode", root=tmp_path / "val/indoors")) == 1
    npy(mask, np.ones((3, 4)))
    with pytest.raises(InputError, match="its mask is not of its size"):
        data[1]
    mask.write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"_depth_mask\.npy: cannot be read"):
        data[1]
