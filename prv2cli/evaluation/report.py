"""The figures of a data set: of each image, and their means.

A figure of a data set is the mean of the images' figures, as in the papers. An image where it cannot be measured (no
depth edge, say) is left out of that mean, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from prv2cli.errors import InputError
from prv2cli.evaluation.config import Measuring
from prv2cli.files.text import shown

Figures = dict[str, float]
Progress = Callable[[int, int], None]


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
    "moge_f1_1": Metric("MoGe F1, radius 1", 1),
    "moge_f1_2": Metric("MoGe F1, radius 2", 1),
    "moge_f1_3": Metric("MoGe F1, radius 3", 1),
    "matte_recall": Metric("Depth Pro recall on mattes", 1),
    "edge_abs_rel": Metric("AbsRel near edges", -1),
    "relative_see": Metric("SEE, relative", -1),
    "flying_pixels": Metric("flying pixels", -1),
    "seam": Metric("seam excess", -1),
    "consistency_error": Metric("tile consistency error", -1, "m"),
    "missing": Metric("pixels without a prediction", -1),
}


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


def not_empty(report: Report) -> Report:
    if not report.images:
        first = shown(next(iter(report.broken.values()), "no images"))
        raise InputError(f"nothing could be measured; the first reason: {first}")
    return report
