"""One photograph's way through the program: Photo -> Depth -> file. No Typer, no printing.

read_photo ─ Photo ─ Refiner.refine ─ Depth ─ describe ─ write
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from prv2cli.depth_files.metadata import DepthMetadata
from prv2cli.depth_files.read import DEPTH_SUFFIXES, Dtype, WriteReport, write_depth
from prv2cli.errors import UsageError
from prv2cli.files.text import shown
from prv2cli.tiling.disagreement import FORMULA, METRE_FORMULA

if TYPE_CHECKING:
    from prv2cli.photo.read import Photo
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.result import Depth


CONFIDENCE_STEPS = 65535.0  # of 16-bit files: white is certain


@dataclass(frozen=True)
class Encoding:
    """How depth is stored. `dtype` None: 16-bit integers where the format has them, else float32."""

    format: str
    dtype: Dtype | None = None
    scale: float = 256.0
    inverse: bool = False

    def stored_as(self, unit: str) -> Dtype:
        """The number type for a map of this unit."""
        if self.dtype is not None:
            return self.dtype
        # A map without a unit has no natural 16-bit scale: 256 steps per unknown unit may be one step in all.
        return "float32" if self.format == "tiff" and unit == "relative" else "uint16"


def confidence_encoding(path: Path, dtype: Dtype | None) -> Encoding:
    """How the confidence is stored, by the extension; `dtype` is obeyed by a TIFF. Raises UsageError."""
    fmt = DEPTH_SUFFIXES.get(path.suffix.lower())
    if fmt is None:
        raise UsageError(f"--confidence {shown(path)}: name a file that ends in {', '.join(DEPTH_SUFFIXES)}")
    return Encoding(fmt, dtype if fmt == "tiff" else None, CONFIDENCE_STEPS)


def check_encoding(encoding: Encoding) -> None:
    """Find out before any work what the format cannot do, or which extra is missing: UsageError, MissingExtraError."""
    write(io.BytesIO(), np.ones((1, 1), np.float32), DepthMetadata(), encoding)


def describe(
    refiner: Refiner,
    result: Depth,
    photo: Photo,
    *,
    coarse_file: Path | None = None,
    focal_px: float | None = None,
) -> DepthMetadata:
    """What the file will say of itself; `coarse_file` where a map was refined instead of a network's depth."""
    network = refiner.coarse.name if refiner.coarse else refiner.name
    return DepthMetadata(
        model=refiner.name,
        model_id=refiner.checkpoint.sha256,
        unit=result.unit,
        focal_px=focal_px or photo.focal_px,
        tiling=result.tiling,
        tta=result.tta,
        precision=result.precision,
        coarse=network if coarse_file is None else f"file {coarse_file.name}",
        source_sha256=photo.sha256,
    )


def describe_confidence(refiner: Refiner, depth: DepthMetadata) -> DepthMetadata:
    """What the confidence that belongs to a depth map says of itself."""
    formula = FORMULA if refiner.config.depth_space == "normalised-log" else METRE_FORMULA
    return replace(depth, kind="confidence", unit="fraction", extra={**depth.extra, "formula": formula})


def write(
    target: Path | BinaryIO,
    depth: np.ndarray,
    metadata: DepthMetadata,
    encoding: Encoding,
    *,
    tiled: bool = False,
    pending: ExitStack | None = None,
    on_band: Callable[[], None] = lambda: None,
) -> WriteReport:
    """Encode (H, W) depth to a file (atomically) or a stream; the rest as in depth_files.write_depth."""
    return write_depth(
        target,
        depth,
        metadata,
        fmt=encoding.format,
        dtype=encoding.stored_as(metadata.unit),
        scale=encoding.scale,
        inverse=encoding.inverse,
        tiled=tiled,
        pending=pending,
        on_band=on_band,
    )


def summary(
    source: str,
    target: str,
    result: Depth,
    photo: Photo,
    metadata: DepthMetadata,
    report: WriteReport,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """What `--json` prints of one file; lengths in pixels, depth in `unit`, times in seconds."""
    height, width = result.depth.shape
    return {
        "input": source,
        "output": target,
        "width": width,
        "height": height,
        "unit": metadata.unit,
        "min": float(result.depth.min()),
        "median": float(np.median(result.depth[::4, ::4])),
        "max": float(result.depth.max()),
        "clipped": report.clipped,
        "rounded": report.rounded,
        "seam": round(result.seam, 5),
        "tiles": result.tiles,
        "tiling": result.tiling,
        "tta": result.tta,
        "model": metadata.model,
        "model_id": metadata.model_id,
        "coarse": metadata.coarse,
        "device": result.device,
        "precision": result.precision,
        "focal_px": metadata.focal_px,
        "notes": list(photo.notes),
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
    }


def confidence_summary(target: Path, confidence: np.ndarray, report: WriteReport) -> dict[str, Any]:
    """What `--json` prints of the confidence: its file, its median, how many pixels it is not known for."""
    sample = confidence[::4, ::4]
    known = sample[~np.isnan(sample)]
    median = float(np.median(known)) if known.size else None
    return {"output": str(target), "median": median, "unknown": report.invalid}
