"""A depth map with all that a depth file must cope with, and the rules of the documentation on their own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth

META = DepthMetadata(
    model="lite",
    model_id="ab" * 32,
    focal_px=1234.5,
    tiling="512x512, overlap 0.25",
    precision="fp32",
    coarse="given",
    source_sha256="cd" * 32,
    extra={"seam": 0.01, "note": "Größe"},
)
PROVENANCE = ("model", "model_id", "focal_px", "tiling", "precision", "coarse", "source_sha256", "extra")
KINDS = [
    pytest.param("png", "uint16", id="png"),
    pytest.param("tif", "uint16", id="tif16"),
    pytest.param("tif", "float32", id="tif32"),
    pytest.param("npy", "float32", id="npy"),
    pytest.param("npz", "float32", id="npz"),
    pytest.param("exr", "float32", id="exr"),
]
SIZES = [(1, 1), (1, 7), (7, 1), (61, 83), (700, 211)]  # the last has more than one band of rows
TEN = np.full((4, 5), 10.0, np.float32)


def scene(height: int = 61, width: int = 83, seed: int = 0) -> np.ndarray:
    """0.1 to 90 metres with every kind of invalid value in it."""
    rng = np.random.default_rng(seed)
    depth = np.exp(rng.uniform(np.log(0.1), np.log(90), (height, width))).astype(np.float32)
    if depth.size > 100:
        depth.flat[:5] = [np.nan, np.inf, -np.inf, 0.0, -3.0]
        depth[10:20, 30:40] = np.nan
    return depth


def clean(depth: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)


def steps(depth: np.ndarray, scale: float) -> np.ndarray:
    """The 16-bit rule of the documentation, on its own."""
    valid = np.isfinite(depth) & (depth > 0)
    exact = np.where(valid, depth, 0).astype(np.float64) * scale
    return np.where(valid, np.clip(np.rint(exact), 1, 65535), 0).astype(np.uint16)


def encoded(fmt: str, dtype: Any = "uint16", depth: np.ndarray | None = None, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    write_depth(buffer, scene() if depth is None else depth, META, fmt=fmt, dtype=dtype, **kwargs)
    return buffer.getvalue()


def skip_without_codec(fmt: str) -> None:
    if fmt == "exr":
        pytest.importorskip("OpenEXR")


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()
