"""What is told of one finished photograph: in its files (the metadata) and by `--json` (the summary)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prv2cli.depth_files.formats.rows import least_turned_over
from prv2cli.depth_files.ours.metadata import Content, DepthMetadata
from prv2cli.depth_files.ours.write import WriteReport
from prv2cli.files.disk_array import bands
from prv2cli.files.pictures.field_of_view import field_of_view
from prv2cli.tiling.disagreement import AFFINE_FORMULA, FORMULA, METRE_FORMULA

if TYPE_CHECKING:
    from prv2cli.photo.read import Photo
    from prv2cli.refine.fuse import Depth
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.request import GivenDepth


def describe(
    refiner: Refiner,
    result: Depth,
    photo: Photo,
    *,
    given: GivenDepth | None = None,
    settings_sha256: str | None = None,
) -> DepthMetadata:
    """What the file will say of itself.

    `given`: the map that was refined instead of a network's depth. `settings_sha256`: of a batch.
    """
    coarse = refiner.coarse.name if refiner.coarse else refiner.name
    if given is not None:
        coarse = f"{coarse} prompted by {given.origin}" if refiner.coarse else given.origin
    known = DepthMetadata(
        model=refiner.name,
        model_id=refiner.checkpoint.sha256,
        unit=result.unit,
        focal_px=result.focal_px,
        focal_origin=result.focal_origin,
        fov_degrees=_field_of_view(result),
        masked=result.masked,
        filled=result.filled,
        tiling=result.tiling,
        tta=result.tta,
        precision=result.precision,
        coarse=coarse,
        coarse_sha256=None if given is None else given.sha256,
        source_sha256=photo.sha256,
        settings_sha256=settings_sha256,
    )
    return known.as_kind(result.kind)


def _field_of_view(result: Depth) -> float | None:
    """Horizontal, in degrees; None where the focal length is not known."""
    if result.focal_px is None:
        return None
    return round(field_of_view(result.focal_px, result.depth.shape[1]), 3)


def describe_confidence(refiner: Refiner, result: Depth, depth: DepthMetadata) -> DepthMetadata:
    """What the confidence that belongs to a depth map says of itself."""
    in_metres = refiner.config.depth_space == "metres"
    formula = METRE_FORMULA if in_metres else AFFINE_FORMULA if result.affine else FORMULA
    return replace(depth, kind="confidence", unit="fraction", extra={**depth.extra, "formula": formula})


def summary(
    result: Depth,
    photo: Photo,
    metadata: DepthMetadata,
    report: WriteReport,
    given: GivenDepth | None = None,
) -> dict[str, Any]:
    """What `--json` prints of one depth map; lengths in pixels, depth in `unit`, both as its file has them.

    given: see describe.
    """
    height, width = result.depth.shape
    return {
        "width": width,
        "height": height,
        "unit": report.unit,
        "kind": report.kind,
        **_range(result.depth, metadata.kind, turned=report.kind != metadata.kind, affine=result.affine),
        "masked": result.masked,
        "filled": result.filled,
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
        "notes": [*photo.notes, *(given.notes if given else ()), *_notes_of_holes(result, given)],
    }


def _notes_of_holes(result: Depth, given: GivenDepth | None) -> list[str]:
    notes = []
    if result.masked:
        kept = given is not None and given.keep_holes
        why = "have no depth, as in the given map" if kept else "are sky and have no depth"
        notes.append(f"{result.masked} pixels {why}")
    if result.filled:
        notes.append(f"{result.filled} pixels have none in the given map and were filled (--keep-holes)")
    return notes


def _range(depth: np.ndarray, kind: Content, *, turned: bool, affine: bool) -> dict[str, float | None]:
    """The smallest, middle and largest depth, by bands where it lies on disk; None where all is sky.

    kind: of depth. turned: of 1 / depth, as the file has it (write.write_depth). affine: it has no zero of its own.
    """
    ends: list[float] = []
    least = least_turned_over(depth, kind) if turned and affine else None

    def known_of(part: np.ndarray) -> np.ndarray:
        known = part[~np.isnan(part)]
        known = known if least is None else np.maximum(known, least)
        return 1 / known if turned else known

    for rows in bands(*depth.shape):
        if (known := known_of(depth[rows])).size:
            ends += [float(known.min()), float(known.max())]
    middle = known_of(depth[::4, ::4])
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
