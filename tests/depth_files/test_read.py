"""Reading depth files by others, which need to be told their unit, and by prv2, where arguments win over the file."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from depth_maps import (
    clean,
    encoded,
    same,
    scene,
)
from PIL import Image

from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import UsageError


def by_others(folder: Path) -> dict[str, tuple[Path, float, np.ndarray]]:
    """name -> (file, the scale that it needs, the depth in metres), made without the code under test."""
    metres = np.array([[0, 1.5, 2.25], [80, 3, 0.5]])
    valid = np.where(metres > 0, metres, np.nan).astype(np.float32)
    Image.fromarray((metres * 256).astype(np.uint16)).save(folder / "kitti.png")
    Image.fromarray((metres * 500).astype(np.uint16)).save(folder / "mm.png")
    tifffile.imwrite(folder / "int32.tif", (metres * 1000).astype(np.int32))
    tifffile.imwrite(folder / "f64.tif", metres, byteorder=">")
    Image.fromarray((metres * 256).astype(np.uint16)).save(folder / "lzw.tif", compression="tiff_lzw")
    float_predictor: dict[str, Any] = {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 3}}
    Image.fromarray(metres.astype(np.float32)).save(folder / "predictor3.tif", **float_predictor)
    np.savez_compressed(folder / "depthpro.npz", depth=metres.astype(np.float32), focallength_px=1000.0)
    np.savez(folder / "single.npz", anything=np.asfortranarray(metres), scalar=3)
    np.save(folder / "f16.npy", (metres * 10).astype(">f2"))
    np.save(folder / "fortran.npy", np.asfortranarray(metres))
    little = b"Pf\n3 2\n-1.0\n" + struct.pack("<6f", 80, 3, 0.5, np.inf, 1.5, 2.25)  # the lower row first
    big = b"Pf 3 2\n1\n" + struct.pack(">6f", 80, 3, 0.5, np.inf, 1.5, 2.25)
    (folder / "middlebury.pfm").write_bytes(little)
    (folder / "big.pfm").write_bytes(big)
    scales = {"kitti.png": 256, "mm.png": 500, "int32.tif": 1000, "lzw.tif": 256, "f16.npy": 10}
    return {p.name: (p, float(scales.get(p.name, 1)), valid) for p in folder.iterdir()}


def test_files_by_others_with_their_scale(folder: Path) -> None:
    cases = by_others(folder)
    assert len(cases) == 12
    for name, (path, scale, expected) in cases.items():
        found = read_depth(path, scale=scale)
        np.testing.assert_allclose(found.values, expected, rtol=1e-3, err_msg=name)
        assert (found.metadata.unit, found.metadata.software) == ("metre", "unknown")
        info = depth_info(path)
        assert (info["unit"], info["invalid"], info["width"]) == ("unknown", 1, 3)
        assert depth_info(path, scale=scale)["max"] == pytest.approx(80, rel=1e-3)
        with pytest.raises(UsageError, match=rf"{name} does not say its unit.*--coarse-scale"):
            read_depth(path, scale_flag="--coarse-scale")


def test_the_refusal_gives_the_usual_answers(folder: Path) -> None:
    cases = by_others(folder)
    with pytest.raises(UsageError, match=r"--scale 256 \(KITTI\).*1000 \(milli.*5000 \(TUM\)") as caught:
        read_depth(cases["kitti.png"][0], relative_flag="--relative")
    assert "--relative" in str(caught.value)
    with pytest.raises(UsageError, match="--scale 1 if the numbers are metres"):
        read_depth(cases["fortran.npy"][0])
    with pytest.raises(UsageError, match=r"1/metre.*focal"):
        read_depth(cases["middlebury.pfm"][0], kind="inverse")
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"--coarse-scale .* positive"):
            read_depth(cases["kitti.png"][0], scale=scale, scale_flag="--coarse-scale")


def test_disparity_and_relative_maps(folder: Path) -> None:
    path = by_others(folder)["middlebury.pfm"][0]
    disparity = read_depth(path, scale=100, kind="inverse")
    assert (disparity.metadata.unit, disparity.metadata.kind) == ("1/metre", "inverse")
    assert np.nanmax(disparity.values) == np.float32(0.8)
    relative = read_depth(path, kind="inverse", relative=True)
    assert (relative.metadata.unit, np.nanmax(relative.values)) == ("1/relative", 80)


def test_explicit_arguments_win_over_the_metadata() -> None:
    data = encoded("npy")
    assert same(read_depth(io.BytesIO(data), scale=2).values, clean(scene()) / 2)
    assert read_depth(io.BytesIO(data), kind="inverse").metadata.unit == "1/metre"
    assert read_depth(io.BytesIO(data), relative=True).metadata.unit == "relative"


def test_no_torch_for_depth_files() -> None:
    code = """
import sys
import prv2cli.depth_files.convert, prv2cli.depth_files.info, prv2cli.depth_files.ours.preview
import prv2cli.cli.commands.files
assert not {"torch", "timm", "tifffile", "PIL", "OpenEXR"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
