"""How a depth map or its confidence is to be stored: one value from the flags to the writer."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from prv2cli.choices import Dtype
from prv2cli.depth_files.ours.encode import DEFAULT_SCALE, DEPTH_SUFFIXES, stored_dtype
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import WriteReport, write_depth
from prv2cli.errors import UsageError
from prv2cli.files.disk_array import DiskArray
from prv2cli.files.text import shown

CONFIDENCE_STEPS = 65535.0  # of 16-bit files: white is certain


@dataclass(frozen=True)
class Encoding:
    """How depth is stored. `dtype` None: 16-bit integers where the format has them, else float32."""

    format: str
    dtype: Dtype | None = None
    scale: float = DEFAULT_SCALE
    inverse: bool = False

    def stored_as(self, unit: str) -> Dtype:
        """The number type for a map of this unit."""
        if self.dtype is not None:
            return self.dtype
        # A map without a unit has no natural 16-bit scale: 256 steps per unknown unit may be one step in all.
        return "float32" if self.format == "tiff" and unit.endswith("relative") else "uint16"

    def identity(self) -> dict[str, Any]:
        """What decides what is in a file, as JSON: the record of a batch knows it in this form."""
        known = asdict(self)
        if stored_dtype(self.format, self.dtype or "uint16") == np.float32:
            known["scale"] = DEFAULT_SCALE  # floats have none
        return known


def confidence_encoding(path: Path, dtype: Dtype | None) -> Encoding:
    """How the confidence is stored, by the extension; `dtype` is obeyed by a TIFF. Raises UsageError."""
    fmt = DEPTH_SUFFIXES.get(path.suffix.lower())
    if fmt is None:
        raise UsageError(f"--confidence {shown(path)}: name a file that ends in {', '.join(DEPTH_SUFFIXES)}")
    return Encoding(fmt, dtype if fmt == "tiff" else None, CONFIDENCE_STEPS)


def check_encoding(encoding: Encoding) -> None:
    """Find out before any work what the format cannot do, or which extra is missing: UsageError, MissingExtraError."""
    write(io.BytesIO(), np.ones((1, 1), np.float32), DepthMetadata(), encoding)


def check_on_disk(encoding: Encoding) -> None:
    """Refuse what cannot be written in bands, before any work. Raises UsageError."""
    if encoding.format == "exr":
        raise UsageError(
            "an .exr file is written from memory, and this photograph is too large for that; use .tif"
        )


def write(
    target: Path | BinaryIO,
    depth: np.ndarray | DiskArray,
    metadata: DepthMetadata,
    encoding: Encoding,
    *,
    signed: bool = False,
    pending: ExitStack | None = None,
    on_band: Callable[[], None] = lambda: None,
) -> WriteReport:
    """Encode (H, W) depth to a file (atomically) or a stream; the rest as in write.write_depth.

    A map on disk becomes a tiled BigTIFF, where it becomes a TIFF. Raises as write_depth; UsageError for .exr of one.
    """
    on_disk = isinstance(depth, DiskArray)
    if on_disk:
        check_on_disk(encoding)
    rows: Any = depth  # what is read by slices alone
    return write_depth(
        target,
        rows,
        metadata,
        fmt=encoding.format,
        dtype=encoding.stored_as(metadata.unit),
        scale=encoding.scale,
        inverse=encoding.inverse,
        signed=signed,
        tiled=on_disk,
        pending=pending,
        on_band=on_band,
    )
