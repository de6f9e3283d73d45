"""Which files are prv2's own, which hold nothing, which are whole."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.preview import write_preview
from prv2cli.depth_files.ours.recognise import is_by_prv2, is_complete, may_be_replaced
from prv2cli.depth_files.ours.write import write_depth

DEPTH = np.random.default_rng(0).uniform(1, 9, (120, 160)).astype(np.float32)
NAMES = ["a.tif", "a.png", "a.npy", "a.npz"]
PICTURES = ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp"]


def _photograph(path: Path) -> None:
    Image.fromarray((DEPTH * 28).astype(np.uint8)).convert("RGB").save(path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["depth", "confidence"])
def test_a_depth_file_says_whose_it_is(tmp_path: Path, name: str, kind: str) -> None:
    about = DepthMetadata() if kind == "depth" else DepthMetadata(kind="confidence", unit="fraction")
    write_depth(tmp_path / name, DEPTH, about)
    assert is_by_prv2(tmp_path / name)
    assert is_complete(tmp_path / name)
    assert is_complete(tmp_path / name, verify=True)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("tiled", [False, True])
def test_every_tiff_is_known_for_whole_or_not(tmp_path: Path, dtype: str, tiled: bool) -> None:
    path = tmp_path / "a.tif"
    write_depth(path, DEPTH, DepthMetadata(), dtype=dtype, tiled=tiled)  # type: ignore[arg-type]
    whole = path.read_bytes()
    assert is_complete(path)
    for cut in (1, 10, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:-cut])
        assert not is_complete(path), cut
        assert may_be_replaced(path), cut


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_preview_says_whose_it_is(tmp_path: Path, name: str) -> None:
    write_preview(tmp_path / name, DEPTH)
    assert is_by_prv2(tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (160, 120)


@pytest.mark.parametrize("name", PICTURES)
def test_a_photograph_is_not_ours(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    _photograph(path)
    assert not is_by_prv2(path)
    assert not may_be_replaced(path)
    path.write_bytes(path.read_bytes() + b" prv2cli")  # which others may write about
    assert not is_by_prv2(path)
    assert not may_be_replaced(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert not may_be_replaced(path)


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<f4"])
def test_a_large_tiff_of_others_is_not_ours(tmp_path: Path, dtype: str) -> None:
    """With its pixels first, as libtiff writes it, and its directory at the end."""
    pixels = (DEPTH * 20).astype(dtype).tobytes()
    path = tmp_path / "a.tif"
    path.write_bytes(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16 + len(pixels)) + pixels + bytes(200))
    assert not may_be_replaced(path)


def test_a_tiff_with_a_short_description_is_not_ours(tmp_path: Path) -> None:
    """It lies in the directory itself, not where its letters would point to."""
    Image.fromarray((DEPTH * 28).astype(np.uint8)).save(tmp_path / "a.tif", description="abc")
    assert (tmp_path / "a.tif").read_bytes()[4] == 8
    assert not may_be_replaced(tmp_path / "a.tif")


def test_an_array_of_others_is_not_ours(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DEPTH)
    np.savez(tmp_path / "a.npz", depth=DEPTH)
    assert not may_be_replaced(tmp_path / "a.npy")
    assert not may_be_replaced(tmp_path / "a.npz")


@pytest.mark.parametrize("name", NAMES)
def test_the_beginning_of_an_output_holds_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_depth(path, DEPTH, DepthMetadata())
    whole = path.read_bytes()
    for length in (0, 1, 4, 9, 20, 30, 50, 100, 200, 400, 1000, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert may_be_replaced(path), length
    path.write_bytes(bytes(len(whole)))
    assert may_be_replaced(path)
    path.write_bytes(bytes(len(whole)) + b"1")
    assert not may_be_replaced(path)


def test_what_is_no_file_is_nobodys(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none"):
        assert not is_by_prv2(path)
        assert not may_be_replaced(path)
