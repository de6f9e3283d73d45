"""What is told of one finished photograph: in its files (the metadata) and by `--json` (the summary)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prv2cli.depth_files.metadata import DepthMetadata
from prv2cli.depth_files.write import WriteReport
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
    focal_px: float | None = None,
    settings_sha256: str | None = None,
) -> DepthMetadata:
    """What the file will say of itself.

    `coarse_file`: where a map was refined instead of a network's depth. `focal_px`: given by the user.
    `settings_sha256`: of a batch.
    """
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
        settings_sha256=settings_sha256,
    )


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
