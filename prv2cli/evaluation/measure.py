"""How good one depth map is, as the papers measure it: every figure of it. No torch here.

photographs ── refiner ── refined and coarse depth (of_model.py) ──┐
                                       depth files (of_files.py) ──┤── align ── clip ── metrics ── report.py
                                                      true depth ──┘
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prv2cli.errors import InputError, MissingExtraError
from prv2cli.evaluation.alignment import Aligned, align
from prv2cli.evaluation.config import Measuring
from prv2cli.evaluation.error_maps import error_map_path, write_error_map
from prv2cli.evaluation.metrics import boundary_f1, edge_errors, pixels
from prv2cli.evaluation.metrics.edges import canny_edges, disparity_edges, edge_band
from prv2cli.evaluation.report import Figures, ImageResult

_HOLE_REACH = edge_errors.EDGE_MATCH + 1  # px around a hole where an edge may be the hole's


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
    """Every figure that one depth map has: the papers' and ours (docs/method.md 4).

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
        mask = pixels.evaluated_pixels(known, low, high, None if how.crop == "none" else how.crop)
    except ValueError as error:
        raise InputError(str(error)) from error
    if not mask.any():
        raise InputError(f"no pixel of the truth lies within the crop ({how.crop}) and {low:g} to {high:g} m")
    fit = align(pred, known, mask, how.align, how.align_space, high)
    depth = pixels.clip_depth(fit.values, low, high)
    edges = _disparity_edges(truth if disparity is None else disparity, exact=how.exact)
    figures = {
        **pixels.paper_metrics(depth, known, mask),
        "see": edge_errors.paper_soft_edge_error(depth, known, mask, edges, exact=how.exact),
        **(_boundaries(depth, known, mask, how) if how.boundaries else {}),
        "depth_pro_f1": boundary_f1.depth_pro_f1(depth, known, mask),
        "boundary_f1": boundary_f1.boundary_f1(depth, known, mask),
        **{f"moge_f1_{radius}": boundary_f1.moge_f1(depth, known, mask, radius) for radius in (1, 2, 3)},
        "edge_abs_rel": edge_errors.edge_abs_rel(depth, known, mask),
        "relative_see": edge_errors.soft_edge_error(depth, known, mask),
        "flying_pixels": edge_errors.flying_pixels(depth, known, mask),
        "missing": float(np.isnan(fit.values[mask]).mean()),
    }
    return Measured(figures, fit, depth, mask)


def _disparity_edges(disparity: np.ndarray, *, exact: bool) -> np.ndarray:
    """Where neighbours differ by more than 1; `exact`: a hole is 0, as for the authors, else it has no edges."""
    return disparity_edges(np.nan_to_num(disparity, nan=0.0) if exact else disparity)


def _boundaries(depth: np.ndarray, known: np.ndarray, mask: np.ndarray, how: Measuring) -> Figures:
    """Canny edges against Canny edges. Unless `exact`, not near holes: the detector sees edges at their borders."""
    true_edges = canny_edges(known)
    if not how.exact:
        sound = ~edge_band(known <= 0, _HOLE_REACH)
        true_edges, mask = true_edges & sound, mask & sound
    found = edge_errors.edge_map_metrics(canny_edges(depth), true_edges, mask, exact=how.exact)
    return {f"edge_{name}": value for name, value in found.items()}


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
            write_error_map(error_map_path(error_maps, name, row), one.depth, truth, one.mask)
    fits = {row: (one.fit.scale, one.fit.shift) for row, one in found.items()}
    aligned = any(fit != (1.0, 0.0) for fit in fits.values())
    return ImageResult(name, {row: one.figures for row, one in found.items()}, fits if aligned else {})
