"""The formats in which depth is written: the encoder of each, and which one a name or a flag asks for.

A format is one file in formats/: its encoder, its decoder, and where its metadata lives.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from prv2cli.choices import Dtype
from prv2cli.depth_files.formats.exr import encode_exr
from prv2cli.depth_files.formats.numpy_arrays import encode_npy, encode_npz
from prv2cli.depth_files.formats.png import encode_png
from prv2cli.depth_files.formats.rows import Rows
from prv2cli.depth_files.formats.tiff import encode_tiff
from prv2cli.errors import UsageError
from prv2cli.files.text import shown

DEPTH_SUFFIXES = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".npy": "npy", ".npz": "npz", ".exr": "exr"}
DEFAULT_SCALE = 256.0  # KITTI and the PatchRefiner authors
Encoder = Callable[[BinaryIO, Rows, str], None]  # the file, the numbers, the metadata as JSON
ENCODERS: dict[str, Encoder] = {
    "png": encode_png,
    "tiff": encode_tiff,
    "npy": encode_npy,
    "npz": encode_npz,
    "exr": encode_exr,
}


def depth_format(path: Path, flag: str | None = None) -> str:
    """The format to write: `flag` (`--format`) where given, else by the extension; PNG for `-`.

    Raises UsageError that names the known ones.
    """
    if flag is not None:
        name = DEPTH_SUFFIXES.get(f".{flag.lower().lstrip('.')}")
        if name is None:
            raise UsageError(f"--format {flag}: unknown; use one of {', '.join(ENCODERS)}")
        return name
    if str(path) == "-":
        return "png"
    name = DEPTH_SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise UsageError(
            f"{shown(path)}: cannot tell the format from {path.suffix or 'a name without extension'!r}; "
            f"use {', '.join(DEPTH_SUFFIXES)}, or --format"
        )
    return name


def stored_dtype(fmt: str, dtype: Dtype) -> np.dtype[Any]:
    """The number type that a format stores where `dtype` was asked for. Raises UsageError."""
    if dtype not in ("uint16", "float32"):
        raise UsageError(f"--dtype {dtype}: use uint16 or float32")
    if fmt == "png" and dtype == "float32":
        raise UsageError("--dtype float32: a PNG holds integers only; use .tif, .npy, .npz or .exr")
    return np.dtype(np.uint16 if fmt == "png" or (fmt == "tiff" and dtype == "uint16") else np.float32)
