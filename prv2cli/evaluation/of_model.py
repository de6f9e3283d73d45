"""A data set through the whole pipeline: the figures of the refined and, beside them, of the coarse depth."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from prv2cli.datasets.samples import DataSet, Readable, Sample, left_out
from prv2cli.errors import InputError, UsageError
from prv2cli.evaluation.alignment import Aligned
from prv2cli.evaluation.config import Measuring
from prv2cli.evaluation.error_maps import check_error_maps
from prv2cli.evaluation.measure import as_result, measure, with_boundaries
from prv2cli.evaluation.metrics.boundary_f1 import matte_recall
from prv2cli.evaluation.metrics.pixels import consistency_error
from prv2cli.evaluation.report import ImageResult, Progress, Report, not_empty
from prv2cli.resampling.maps import bilinear, nearest

logger = logging.getLogger("prv2cli")

ROWS = ("coarse", "refined")
CONSISTENCY_SPLIT = 4  # tiles of a quarter of the photograph, overlapping by half, as PatchFusion takes them


class Estimate(Protocol):
    """What a refiner gives (refine.fuse.Depth)."""

    @property
    def depth(self) -> np.ndarray: ...
    @property
    def coarse(self) -> np.ndarray: ...
    @property
    def seam(self) -> float: ...
    @property
    def unit(self) -> str: ...
    @property
    def seen(self) -> np.ndarray | None:
        """(h, w) bool, the pixels of `coarse` where the network sees a surface, not the sky; None: everywhere."""
        ...


class RefinerLike(Protocol):
    """What gives the depth of photographs (refine.asked.AskedRefiner)."""

    @property
    def bundle(self) -> Any: ...

    def refine(
        self,
        rgb: np.ndarray,
        *,
        focal_px: float | None = None,
        coarse_depth: np.ndarray | None = None,
        coarse_unit: str = "metre",
    ) -> Estimate: ...


def evaluate_model(
    refiner: RefinerLike,
    data: DataSet,
    how: Measuring,
    *,
    limit: int | None = None,
    consistency: bool = False,
    error_maps: Path | None = None,
    tell: Callable[[str], None] = logger.warning,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Run the pipeline over a data set: the figures of the refined and, beside them, of the coarse depth.

    The coarse map is brought to the photograph's size bilinearly; like the refined one it has no depth where its
    network sees sky. A broken sample is told once and left out.

    Args:
        limit: only so many images, from the start.
        consistency: also measure `tile_consistency`. error_maps: a folder for one PNG per image and row.

    Raises:
        UsageError: depth without a physical unit and no alignment; tile consistency of a bundle, or on mattes; error
            maps of mattes.
        InputError: not one sample could be read. OutputError: an error map in the place of a file that is none.
    """
    if consistency and refiner.bundle is not None:
        raise UsageError(
            "consistency: a bundle refines its own depth of a whole photograph only; leave it out"
        )
    check_error_maps(error_maps, data.names[:limit], ROWS)
    how, notes = with_boundaries(how)
    report = Report(how, notes=notes)
    readable = Readable(data, tell, limit)
    for done, sample in enumerate(readable):
        progress(done, readable.count)
        try:
            result = _evaluate_sample(refiner, sample, how, consistency, error_maps)
        except InputError as error:
            readable.broken[sample.name] = str(error)
            tell(left_out(sample.name, error))
        else:
            report.images.append(result)
    progress(readable.count, readable.count)
    report.broken = readable.broken
    return not_empty(report)


def _evaluate_sample(
    refiner: RefinerLike,
    sample: Sample,
    how: Measuring,
    consistency: bool,
    error_maps: Path | None,
) -> ImageResult:
    estimate = refiner.refine(sample.rgb, focal_px=sample.focal_px)
    if sample.matte is not None:
        if consistency or error_maps is not None:
            raise UsageError("mattes have no true depth; leave out consistency and --error-maps")
        return _on_matte(sample.name, sample.matte, estimate)
    if estimate.unit != "metre" and how.align == "none":
        raise UsageError(
            "the coarse depth has no physical unit; measure it with align: scale-shift (--align scale-shift)"
        )
    shape = sample.truth.shape
    rows = dict(zip(ROWS, (_coarse(estimate, shape, np.nan), estimate.depth), strict=True))
    found = {row: measure(depth, sample.truth, how, sample.disparity) for row, depth in rows.items()}
    found["refined"].figures["seam"] = estimate.seam
    if consistency:
        found["refined"].figures["consistency_error"] = tile_consistency(
            refiner,
            sample.rgb,
            bilinear(estimate.coarse, shape),
            estimate.unit,
            found["refined"].fit,
            None if estimate.seen is None else nearest(estimate.seen, shape),
        )
    return as_result(sample.name, sample.truth, found, error_maps)


def _on_matte(name: str, matte: np.ndarray, estimate: Estimate) -> ImageResult:
    """The recall of its outline; without a truth there is nothing else, nor is the unit of any matter.

    The sky lies behind everything, in both rows.
    """
    coarse, refined = _coarse(estimate, matte.shape, np.inf), estimate.depth
    if estimate.seen is not None:
        refined = np.where(np.isnan(refined), np.inf, refined)
    rows = dict(zip(ROWS, (coarse, refined), strict=True))
    figures = {row: {"matte_recall": matte_recall(depth, matte)} for row, depth in rows.items()}
    figures["refined"]["seam"] = estimate.seam
    return ImageResult(name, figures)


def _coarse(estimate: Estimate, shape: tuple[int, int], sky: float) -> np.ndarray:
    """The coarse map at the photograph's size; `sky` where its network sees no surface, whose depth spreads nowhere."""
    if estimate.seen is None:
        return bilinear(estimate.coarse, shape)
    seen = np.asarray(estimate.seen)
    with np.errstate(invalid="ignore"):  # nothing by nothing, in the sky
        values = bilinear(np.where(seen, estimate.coarse, 0), shape) / bilinear(
            seen.astype(np.float32), shape
        )
    return np.where(nearest(seen, shape), values, np.float32(sky))


def tile_consistency(
    refiner: RefinerLike,
    rgb: np.ndarray,
    coarse: np.ndarray,
    unit: str = "metre",
    fit: Aligned | None = None,
    seen: np.ndarray | None = None,
) -> float:
    """Tile consistency error: how much neighbouring tiles disagree where they overlap, metres.

    A grid of tiles of a quarter of the photograph that overlap by half, as PatchFusion measures (540 x 960 of
    2160 x 3840). Each goes through the pipeline as a photograph of its own, with its part of the one coarse map,
    so nothing but the refinement can disagree.

    Args:
        rgb: (H, W, 3). coarse: (H, W), the coarse map of the whole photograph, in `unit`.
        fit: of the photograph's depth, which brings the tiles to metres too; None: they are metres.
        seen: (H, W) bool, where there is a surface; only there is anything compared.

    Raises:
        InputError: a photograph of less than 8 x 8.
    """
    height, width = (side // CONSISTENCY_SPLIT for side in coarse.shape)
    if min(height, width) < 2:
        raise InputError(
            f"a photograph of {coarse.shape[1]} x {coarse.shape[0]} is too small to measure its tiles"
        )
    down, across = height // 2, width // 2
    tops = range(0, coarse.shape[0] - height + 1, height - down)
    lefts = range(0, coarse.shape[1] - width + 1, width - across)
    windows = [[np.s_[top : top + height, left : left + width] for left in lefts] for top in tops]
    tiles = [
        [refiner.refine(rgb[w], coarse_depth=coarse[w], coarse_unit=unit).depth for w in line]
        for line in windows
    ]
    if fit is not None:
        tiles = [[fit.apply(tile) for tile in line] for line in tiles]
    if seen is not None:
        tiles = [
            [np.where(seen[w], tile, np.nan) for w, tile in zip(places, line, strict=True)]
            for places, line in zip(windows, tiles, strict=True)
        ]
    return consistency_error(np.array(tiles), (down, across))
