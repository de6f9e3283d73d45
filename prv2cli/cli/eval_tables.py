"""What `prv2 eval` prints where --json is not asked for: a report, each of its images, a comparison of networks."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prv2cli.cli.ui import wide_console
from prv2cli.evaluation.compare import Comparison
from prv2cli.evaluation.report import METRICS, Report
from prv2cli.files.text import shown

# The columns of --per-image and of a comparison; --json has all figures.
SHOWN_PER_IMAGE = ("delta1", "abs_rel", "rmse", "see", "edge_f1", "depth_pro_f1", "matte_recall")
SHOWN_PER_NETWORK = (
    *("delta1", "abs_rel", "rmse", "see", "depth_pro_f1", "boundary_f1", "moge_f1_1", "matte_recall"),
    *("flying_pixels", "seam"),
)


def print_report(report: Report, *, per_image: bool) -> None:
    """The means of all figures, a figure a line; with `per_image` the main figures of each image too."""
    console = Console(highlight=False)
    means = report.means()
    arrows = {-1: "lower", 1: "higher", 0: ""}
    table = Table(box=None, pad_edge=False)
    for title in (f"mean of {len(report.images)} images", "better", *report.rows):
        table.add_column(title, justify="left" if title not in report.rows else "right")
    for name, metric in METRICS.items():
        if any(name in figures for figures in means.values()):
            cells = [_cell(report, row, name, means[row].get(name)) for row in report.rows]
            table.add_row(Text(_title(name)), arrows[metric.better], *cells)
    console.print(table)
    if per_image:
        console.print()
        console.print(_images(report))


def print_comparison(comparison: Comparison, *, per_image: bool) -> None:
    """Two lines a network, alone and refined; with `per_image` then each network's images."""
    console = wide_console()
    refiner = str(comparison.about.get("model"))
    names = _used(SHOWN_PER_NETWORK, comparison.reports.values())
    table = Table(box=None, pad_edge=False)
    table.add_column("network", overflow="fold")
    for title in ("images", *(_title(name) for name in names)):
        table.add_column(title, justify="right", no_wrap=True)
    for network, report in comparison.reports.items():
        means = report.means()
        for row, figures in means.items():
            label = network if row == "coarse" else f"  + {refiner}"
            cells = [_cell(report, row, name, figures.get(name)) for name in names]
            table.add_row(Text(shown(label)), str(len(report.images)), *cells)
    console.print(table)
    if per_image:
        for network, report in comparison.reports.items():
            console.print(Text(f"\n{shown(network)}"))
            console.print(_images(report))


def _images(report: Report) -> Table:
    names = _used(SHOWN_PER_IMAGE, [report])
    table = Table(box=None, pad_edge=False)
    # Names differ at their ends: a pipe of 80 columns must not cut them off.
    table.add_column("image", overflow="fold")
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(METRICS[name].title, justify="right", no_wrap=True)
    for image in report.images:
        for row, figures in image.figures.items():
            table.add_row(Text(shown(image.name)), row, *(_number(figures.get(name)) for name in names))
    return table


def _used(names: Iterable[str], reports: Iterable[Report]) -> list[str]:
    """Those that any row of any report has."""
    found = {name for report in reports for figures in report.means().values() for name in figures}
    return [name for name in names if name in found]


def _title(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.title} ({metric.unit})" if metric.unit else metric.title


def _cell(report: Report, row: str, name: str, mean: float | None) -> str:
    """A mean, with the number of images where it is not all of them."""
    count = len(report.values(row, name))
    few = f" ({count})" if mean is not None and 0 < count < len(report.images) else ""
    return _number(mean) + few


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
