"""How good depth is, as the papers measure it (METHOD 4): per image, and the mean over the images. No torch here.

    photographs ── refiner ── refined and coarse depth ──┐
                     or depth files (depth_pairs.py) ────┤── align ── clip ── metrics ── Report
                                         true depth ─────┘

A figure of a data set is the mean of the images' figures, as in the papers. An image where it cannot be measured (no
depth edge, say) is left out of that mean, and counted.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from prv2cli.datasets.samples import DataSet, Readable, Sample, left_out
from prv2cli.errors import InputError, MissingExtraError, UsageError
from prv2cli.evaluation import metrics
from prv2cli.evaluation.alignment import Aligned, align
from prv2cli.evaluation.config import Measuring
from prv2cli.evaluation.edges import canny_edges
from prv2cli.evaluation.error_maps import write_error_map
from prv2cli.files.text import shown
from prv2cli.resampling.maps import bilinear

logger = logging.getLogger("prv2cli")

Figures = dict[str, float]
Progress = Callable[[int, int], None]
CONSISTENCY_SPLIT = 4  # tiles of a quarter of the photograph, overlapping by half, as PatchFusion takes them
_HOLE_REACH = metrics.EDGE_MATCH + 1  # px around a hole where an edge may be the hole's


class Metric(NamedTuple):
    """How a figure is called and read. better: -1 = lower, 1 = higher, 0 = neither."""

    title: str
    better: int
    unit: str = ""


METRICS: dict[str, Metric] = {
    "delta1": Metric("delta 1", 1),
    "delta2": Metric("delta 2", 1),
    "delta3": Metric("delta 3", 1),
    "abs_rel": Metric("AbsRel", -1),
    "sq_rel": Metric("SqRel", -1, "m"),
    "rmse": Metric("RMSE", -1, "m"),
    "rmse_log": Metric("RMSE log", -1),
    "silog": Metric("SILog x 100", -1),
    "log10": Metric("log10", -1),
    "see": Metric("SEE", -1, "m"),
    "edge_accuracy": Metric("boundary accuracy", -1, "px"),
    "edge_completeness": Metric("boundary completeness", -1, "px"),
    "edge_precision": Metric("boundary precision", 1),
    "edge_recall": Metric("boundary recall", 1),
    "edge_f1": Metric("boundary F1", 1),
    "edge_hamming": Metric("boundary Hamming distance", -1),
    "edge_agreement": Metric("boundary agreement", 1),
    "depth_pro_f1": Metric("Depth Pro F1", 1),
    "boundary_f1": Metric("F1 within 1 px", 1),
    "edge_abs_rel": Metric("AbsRel near edges", -1),
    "relative_see": Metric("SEE, relative", -1),
    "flying_pixels": Metric("flying pixels", -1),
    "seam": Metric("seam excess", -1),
    "consistency_error": Metric("tile consistency error", -1, "m"),
    "missing": Metric("pixels without a prediction", -1),
}


# --- results --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageResult:
    """The figures of one image, by row ("refined", "coarse", "prediction"), and the fit of each alignment."""

    name: str
    figures: dict[str, Figures]
    fits: dict[str, tuple[float, float]] = field(default_factory=dict)  # row -> scale, shift


@dataclass
class Report:
    """All images. broken: name -> why it was left out. notes: what else a reader must know."""

    measure: Measuring
    images: list[ImageResult] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for image in self.images for row in image.figures))

    def values(self, row: str, metric: str) -> list[float]:
        """The figure of every image that has it; NaN is none."""
        found = (image.figures.get(row, {}).get(metric, math.nan) for image in self.images)
        return [value for value in found if not math.isnan(value)]

    def means(self) -> dict[str, Figures]:
        """row -> metric -> mean over the images that have it; NaN if none has."""
        return {
            row: {
                name: float(np.mean(values)) if (values := self.values(row, name)) else math.nan
                for name in METRICS
                if any(name in image.figures.get(row, {}) for image in self.images)
            }
            for row in self.rows
        }

    def to_json(self, *, per_image: bool = False) -> dict[str, Any]:
        """Ready for JSON: null instead of NaN. `measured`: how many images a mean is over, where not all."""
        means = self.means()
        measured = {
            row: {name: len(self.values(row, name)) for name in figures} for row, figures in means.items()
        }
        result: dict[str, Any] = {
            **self.about,
            "measure": self.measure.model_dump(mode="json"),
            "images": len(self.images),
            "broken": self.broken,
            "notes": self.notes,
            "means": {row: _no_nan(figures) for row, figures in means.items()},
            "measured": {
                row: {name: count for name, count in counts.items() if count < len(self.images)}
                for row, counts in measured.items()
            },
        }
        if per_image:
            result["per_image"] = [
                {"name": image.name, "figures": {row: _no_nan(f) for row, f in image.figures.items()}}
                | ({"fits": image.fits} if image.fits else {})
                for image in self.images
            ]
        return result


def _no_nan(figures: Figures) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


# --- one image ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Measured:
    """Figures, the fit, and what an error map needs: (H, W) aligned and clipped depth, and where it counted."""

    figures: Figures
    fit: Aligned
    depth: np.ndarray
    mask: np.ndarray


def measure(
    pred: np.ndarray, truth: np.ndarray, how: Measuring, disparity: np.ndarray | None = None
) -> Measured:
    """Every metric of METHOD 4 that one depth map has.

    Args:
        pred: (H, W) metres, or any unit if it is aligned; what is not finite and above 0 is no prediction. It counts
            as the smallest depth of the cap, as in the authors' evaluation.
        truth: (H, W) metres, NaN = not measured.
        disparity: (H, W) px, NaN = not measured: the edges of SEE. None: those of the truth, as the authors do for
            data sets without disparity.

    Raises:
        InputError: no pixel of the truth within crop and cap, or nothing to align on.
    """
    known = np.nan_to_num(truth, nan=0.0)
    low, high = how.cap
    try:
        mask = metrics.evaluated_pixels(known, low, high, None if how.crop == "none" else how.crop)
    except ValueError as error:
        raise InputError(str(error)) from error
    if not mask.any():
        raise InputError(f"no pixel of the truth lies within the crop ({how.crop}) and {low:g} to {high:g} m")
    fit = align(pred, known, mask, how.align, how.align_space, high)
    depth = metrics.clip_depth(fit.values, low, high)
    edges = _disparity_edges(truth if disparity is None else disparity, exact=how.exact)
    figures = {
        **metrics.paper_metrics(depth, known, mask),
        "see": metrics.paper_soft_edge_error(depth, known, mask, edges, exact=how.exact),
        **(_boundaries(depth, known, mask, how) if how.boundaries else {}),
        "depth_pro_f1": metrics.depth_pro_f1(depth, known, mask),
        "boundary_f1": metrics.boundary_f1(depth, known, mask),
        "edge_abs_rel": metrics.edge_abs_rel(depth, known, mask),
        "relative_see": metrics.soft_edge_error(depth, known, mask),
        "flying_pixels": metrics.flying_pixels(depth, known, mask),
        "missing": float(np.isnan(fit.values[mask]).mean()),
    }
    return Measured(figures, fit, depth, mask)


def _disparity_edges(disparity: np.ndarray, *, exact: bool) -> np.ndarray:
    """Where neighbours differ by more than 1; `exact`: a hole is 0, as for the authors, else it has no edges."""
    return metrics.disparity_edges(np.nan_to_num(disparity, nan=0.0) if exact else disparity)


def _boundaries(depth: np.ndarray, known: np.ndarray, mask: np.ndarray, how: Measuring) -> Figures:
    """Canny edges against Canny edges. Unless `exact`, not near holes: the detector sees edges at their borders."""
    true_edges = canny_edges(known)
    if not how.exact:
        sound = ~metrics.edge_band(known <= 0, _HOLE_REACH)
        true_edges, mask = true_edges & sound, mask & sound
    found = metrics.edge_map_metrics(canny_edges(depth), true_edges, mask, exact=how.exact)
    return {f"edge_{name}": value for name, value in found.items()}


# --- a data set through the whole pipeline --------------------------------------------------------------------


class Estimate(Protocol):
    """What a refiner gives (result.Depth)."""

    @property
    def depth(self) -> np.ndarray: ...
    @property
    def coarse(self) -> np.ndarray: ...
    @property
    def seam(self) -> float: ...
    @property
    def unit(self) -> str: ...


class RefinerLike(Protocol):
    """What is needed of inference.Refiner."""

    @property
    def bundle(self) -> Any: ...

    def refine(self, rgb: np.ndarray, **options: Any) -> Estimate: ...


def evaluate_model(
    refiner: RefinerLike,
    data: DataSet,
    how: Measuring,
    *,
    tiling: dict[str, Any] | None = None,
    limit: int | None = None,
    consistency: bool = False,
    error_maps: Path | None = None,
    tell: Callable[[str], None] = logger.warning,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Run the pipeline over a data set: the figures of the refined and, beside them, of the coarse depth.

    The coarse map is brought to the photograph's size bilinearly. A broken sample is told once and left out.

    Args:
        tiling: further arguments of Refiner.refine. limit: only so many images, from the start.
        consistency: also measure `tile_consistency`. error_maps: a folder for one PNG per image and row.

    Raises:
        UsageError: depth without a physical unit and no alignment; tile consistency of a bundle.
        InputError: not one sample could be read.
    """
    if consistency and refiner.bundle is not None:
        raise UsageError(
            "consistency: a bundle refines its own depth of a whole photograph only; leave it out"
        )
    how, notes = with_boundaries(how)
    report = Report(how, notes=notes)
    readable = Readable(data, tell, limit)
    for done, sample in enumerate(readable):
        progress(done, readable.count)
        try:
            result = _evaluate_sample(refiner, sample, how, tiling or {}, consistency, error_maps)
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
    tiling: dict[str, Any],
    consistency: bool,
    error_maps: Path | None,
) -> ImageResult:
    estimate = refiner.refine(sample.rgb, focal_px=sample.focal_px, **tiling)
    if estimate.unit != "metre" and how.align == "none":
        raise UsageError(
            "the coarse depth has no physical unit; measure it with align: scale-shift (--align scale-shift)"
        )
    coarse = bilinear(estimate.coarse, sample.truth.shape)
    rows = {"coarse": coarse, "refined": estimate.depth}
    found = {row: measure(depth, sample.truth, how, sample.disparity) for row, depth in rows.items()}
    found["refined"].figures["seam"] = estimate.seam
    if consistency:
        found["refined"].figures["consistency_error"] = tile_consistency(
            refiner, sample.rgb, coarse, estimate.unit, found["refined"].fit
        )
    return as_result(sample.name, sample.truth, found, error_maps)


def tile_consistency(
    refiner: RefinerLike, rgb: np.ndarray, coarse: np.ndarray, unit: str = "metre", fit: Aligned | None = None
) -> float:
    """Tile consistency error: how much neighbouring tiles disagree where they overlap, metres.

    A grid of tiles of a quarter of the photograph that overlap by half, as PatchFusion measures (540 x 960 of
    2160 x 3840). Each goes through the pipeline as a photograph of its own, with its part of the one coarse map,
    so nothing but the refinement can disagree.

    Args:
        rgb: (H, W, 3). coarse: (H, W), the coarse map of the whole photograph, in `unit`.
        fit: of the photograph's depth, which brings the tiles to metres too; None: they are metres.

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
    return metrics.consistency_error(np.array(tiles), (down, across))


# --- what the two ways share ----------------------------------------------------------------------------------


def with_boundaries(how: Measuring) -> tuple[Measuring, list[str]]:
    """`boundaries` decided, and what to say about it. Raises MissingExtraError where they are asked for in vain."""
    installed = (
        importlib.util.find_spec("skimage") is not None and importlib.util.find_spec("scipy") is not None
    )
    if how.boundaries and not installed:
        raise MissingExtraError("The boundary metrics", "train")
    note = "the papers' boundary metrics are left out: they need the extra prv2cli[train]"
    notes = [note] if how.boundaries is None and not installed else []
    return how.model_copy(
        update={"boundaries": installed if how.boundaries is None else how.boundaries}
    ), notes


def as_result(
    name: str, truth: np.ndarray, found: dict[str, Measured], error_maps: Path | None
) -> ImageResult:
    if error_maps is not None:
        for row, one in found.items():
            write_error_map(error_maps / f"{name}.{row}.png", one.depth, truth, one.mask)
    fits = {row: (one.fit.scale, one.fit.shift) for row, one in found.items()}
    aligned = any(fit != (1.0, 0.0) for fit in fits.values())
    return ImageResult(name, {row: one.figures for row, one in found.items()}, fits if aligned else {})


def not_empty(report: Report) -> Report:
    if not report.images:
        first = shown(next(iter(report.broken.values()), "no images"))
        raise InputError(f"nothing could be measured; the first reason: {first}")
    return report
