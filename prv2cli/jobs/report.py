"""What is told of one finished photograph: in its files (the metadata) and by `--json` (the summary)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import WriteReport
from prv2cli.files.disk_array import bands
from prv2cli.tiling.disagreement import FORMULA, METRE_FORMULA

if TYPE_CHECKING:
    from prv2cli.photo.read import Photo
    from prv2cli.refine.fuse import Depth
    from prv2cli.refine.refiner import Refiner


def describe(
    refiner: Refiner,
    result: Depth,
    photo: Photo,
    *,
    coarse_file: Path | None = None,
    settings_sha256: str | None = None,
) -> DepthMetadata:
    """What the file will say of itself.

    `coarse_file`: where a map was refined instead of a network's depth. `settings_sha256`: of a batch.
    """
    coarse = refiner.coarse.name if refiner.coarse else refiner.name
    if coarse_file is not None:
        file = f"file {coarse_file.name}"
        coarse = f"{coarse} prompted by {file}" if refiner.coarse else file
    known = DepthMetadata(
        model=refiner.name,
        model_id=refiner.checkpoint.sha256,
        unit=result.unit,
        focal_px=result.focal_px,
        focal_origin=result.focal_origin,
        fov_degrees=_field_of_view(result),
        masked=result.masked,
        tiling=result.tiling,
        tta=result.tta,
        precision=result.precision,
        coarse=coarse,
        source_sha256=photo.sha256,
        settings_sha256=settings_sha256,
    )
    return known.as_kind(result.kind)


def _field_of_view(result: Depth) -> float | None:
    """Horizontal, in degrees; None where the focal length is not known."""
    if result.focal_px is None:
        return None
    return round(2 * math.degrees(math.atan(result.depth.shape[1] / (2 * result.focal_px))), 3)


def describe_confidence(refiner: Refiner, depth: DepthMetadata) -> DepthMetadata:
    """What the confidence that belongs to a depth map says of itself."""
    formula = FORMULA if refiner.config.depth_space == "normalised-log" else METRE_FORMULA
    return replace(depth, kind="confidence", unit="fraction", extra={**depth.extra, "formula": formula})


def summary(result: Depth, photo: Photo, metadata: DepthMetadata, report: WriteReport) -> dict[str, Any]:
    """What `--json` prints of one depth map; lengths in pixels, depth in `unit`."""
    height, width = result.depth.shape
    return {
        "width": width,
        "height": height,
        "unit": metadata.unit,
        **_range(result.depth),
        "masked": result.masked,
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
        "focal_origin": metadata.focal_origin,
        "fov_degrees": metadata.fov_degrees,
        "notes": [*photo.notes, *_note_of_sky(result)],
    }


def _note_of_sky(result: Depth) -> list[str]:
    return [f"{result.masked} pixels are sky and have no depth"] if result.masked else []


def _range(depth: np.ndarray) -> dict[str, float | None]:
    """The smallest, middle and largest depth, by bands where it lies on disk; None where all is sky."""
    ends: list[float] = []
    for rows in bands(*depth.shape):
        part = depth[rows]
        if (known := part[~np.isnan(part)]).size:
            ends += [float(known.min()), float(known.max())]
    sample = depth[::4, ::4]
    middle = sample[~np.isnan(sample)]
    return {
        "min": min(ends, default=None),
        "median": float(np.median(middle)) if middle.size else None,
        "max": max(ends, default=None),
    }


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    """Times by part as `--json` prints them."""
    return {part: round(value, 3) for part, value in seconds.items()}


def confidence_summary(target: Path, confidence: np.ndarray, report: WriteReport) -> dict[str, Any]:
    """What `--json` prints of the confidence: its file, its median, how many pixels it is not known for."""
    sample = confidence[::4, ::4]
    known = sample[~np.isnan(sample)]
    median = float(np.median(known)) if known.size else None
    return {"output": str(target), "median": median, "unknown": report.invalid}
