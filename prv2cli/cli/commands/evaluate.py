"""`prv2 eval`: the papers' metrics, of a model on a data set or of depth files against the truth."""

from __future__ import annotations

import json as json_module
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prv2cli.choices import Align, AlignSpace, CropName, Kind, Resize
from prv2cli.cli.options import models_of, tiling_of
from prv2cli.cli.streams import emit
from prv2cli.cli.ui import (
    JsonOption,
    QuietOption,
    VerboseOption,
    configure_logging,
    progress_bar,
    warn,
)

if TYPE_CHECKING:
    from prv2cli.evaluation.report import Report

MEASURE = "How it is measured"
MODEL = "A model on a data set (--config)"
FILES = "Depth files (--pred, --gt)"
# The columns of --per-image; --json has all figures.
SHOWN_PER_IMAGE = ("delta1", "abs_rel", "rmse", "see", "edge_f1", "depth_pro_f1")


def evaluate(
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file: which data set, which model.")
    ] = None,
    pred: Annotated[Path | None, typer.Option("--pred", help="Predicted depth files, or one.")] = None,
    gt: Annotated[
        Path | None, typer.Option("--gt", help="True depth files of the same names, or one.")
    ] = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="Figures of every image too.")] = False,
    error_maps: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write a picture of the errors per image.")
    ] = None,
    crop: Annotated[
        CropName | None, typer.Option(help="Part of the image that counts.", rich_help_panel=MEASURE)
    ] = None,
    cap: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="MIN MAX",
            help="Truth between these metres counts, predictions are clipped to them. Default 0.001 80, or the "
            "papers' for the data set.",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    align: Annotated[
        Align | None,
        typer.Option(help="Bring each prediction to the truth's scale first.", rich_help_panel=MEASURE),
    ] = None,
    align_space: Annotated[
        AlignSpace | None, typer.Option(help="Where to align.", rich_help_panel=MEASURE)
    ] = None,
    boundaries: Annotated[
        bool | None,
        typer.Option(
            "--boundaries/--no-boundaries",
            help="The papers' boundary metrics; they need the extra `train`.",
            show_default="if that is installed",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--no-exact",
            help="As the authors' code has it, oddities too.",
            show_default=False,
            rich_help_panel=MEASURE,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="As in `prv2 refine`.", rich_help_panel=MODEL)
    ] = None,
    coarse: Annotated[str | None, typer.Option(help="As in `prv2 refine`.", rich_help_panel=MODEL)] = None,
    device: Annotated[str | None, typer.Option(help="As in `prv2 refine`.", rich_help_panel=MODEL)] = None,
    precision: Annotated[str | None, typer.Option(help="As in `prv2 refine`.", rich_help_panel=MODEL)] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N images.", rich_help_panel=MODEL)
    ] = None,
    consistency: Annotated[
        bool | None,
        typer.Option(
            "--consistency/--no-consistency",
            help="The tile consistency error too: up to 49 passes more.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    pred_scale: Annotated[
        float | None,
        typer.Option(
            help="Numbers per metre of files that do not say it (1: metres).", rich_help_panel=FILES
        ),
    ] = None,
    gt_scale: Annotated[
        float | None, typer.Option(help="The same of the truth, e.g. 256 for KITTI.", rich_help_panel=FILES)
    ] = None,
    pred_kind: Annotated[
        Kind | None, typer.Option(help="depth or inverse depth.", rich_help_panel=FILES)
    ] = None,
    gt_kind: Annotated[
        Kind | None, typer.Option(help="depth or inverse depth.", rich_help_panel=FILES)
    ] = None,
    pred_suffix: Annotated[
        str | None, typer.Option(help="End of the names of predictions, e.g. _depth.", rich_help_panel=FILES)
    ] = None,
    gt_suffix: Annotated[
        str | None, typer.Option(help="End of the names of true depth files.", rich_help_panel=FILES)
    ] = None,
    resize: Annotated[
        Resize | None,
        typer.Option(help="Bring predictions of another size to the truth's.", rich_help_panel=FILES),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Measure depth against the truth with the papers' metrics: a table on stdout, or JSON."""
    configure_logging(quiet=quiet, verbose=verbose)
    how = _given(crop=crop, cap=cap, align=align, align_space=align_space, boundaries=boundaries, exact=exact)
    of_model = _given(
        model=model, coarse=coarse, device=device, precision=precision, limit=limit, consistency=consistency
    )
    of_files = _given(
        pred_scale=pred_scale,
        gt_scale=gt_scale,
        pred_kind=pred_kind,
        gt_kind=gt_kind,
        pred_suffix=pred_suffix,
        gt_suffix=gt_suffix,
        resize=resize,
    )
    _check_what(config, pred, gt, of_model, of_files)
    _check_folder(error_maps)
    if config is not None:
        changes = of_model | {f"measure.{key}": value for key, value in how.items()}
        report, alone = _run_model(config, changes, error_maps, quiet), 0
    else:
        assert pred is not None
        assert gt is not None
        report, alone = _run_files(pred, gt, how, of_files, error_maps, quiet)
    for note in report.notes:
        warn(note, quiet=quiet)
    if json:
        emit(json_module.dumps(report.to_json(per_image=per_image), allow_nan=False))
    else:
        _print_tables(report, per_image)
    return 1 if report.broken or alone else 0


def _given(**flags: Any) -> dict[str, Any]:
    """The flags that were used."""
    return {key: value for key, value in flags.items() if value is not None}


def _check_what(
    config: Path | None,
    pred: Path | None,
    gt: Path | None,
    of_model: dict[str, Any],
    of_files: dict[str, Any],
) -> None:
    """Either a configuration or two places with files, each with its own flags. Raises UsageError."""
    from prv2cli.errors import UsageError

    if config is None and (pred is None or gt is None):
        raise UsageError("give --config eval.yaml, or --pred A --gt B")
    if config is not None and (pred is not None or gt is not None):
        raise UsageError("--config measures a model and --pred, --gt measure files; give one of the two")
    if config is None:
        stray, partner = of_model, "--config"
    else:
        stray, partner = of_files, "--pred and --gt"
    if stray:
        raise UsageError(f"--{next(iter(stray)).replace('_', '-')} goes with {partner}; leave it out")


def _check_folder(folder: Path | None) -> None:
    from prv2cli.errors import OutputError

    if folder is not None and folder.exists() and not folder.is_dir():
        raise OutputError(f"--error-maps {folder}: that is a file; name a folder")


def _run_model(path: Path, changes: dict[str, Any], error_maps: Path | None, quiet: bool) -> Report:
    from prv2cli.datasets.layouts import open_data
    from prv2cli.evaluation.config import load_eval_config
    from prv2cli.evaluation.measure import with_boundaries
    from prv2cli.evaluation.of_model import evaluate_model
    from prv2cli.refine.asked import AskedRefiner
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.request import RefineRequest

    config = load_eval_config(path, changes)
    with_boundaries(config.measure)  # a missing extra is said before the data set is listed
    request = RefineRequest(tiling_of(config.tile, config.overlap, config.mode, config.seed))
    models = models_of(
        config.model,
        config.coarse,
        None,
        config.device,
        config.precision,
        scene=config.scene,
        revision=config.revision,
        offline=config.offline,
    )
    data = open_data(config.data)
    refiner = Refiner.load(models)
    with progress_bar("images", quiet=quiet) as progress:
        report = evaluate_model(
            AskedRefiner(refiner, request),
            data,
            config.measure,
            limit=config.limit,
            consistency=config.consistency,
            error_maps=error_maps,
            progress=progress,
        )
    report.about = {
        "data": config.data.model_dump(mode="json"),
        "model": refiner.name,
        "coarse": refiner.coarse.name if refiner.coarse else None,
    }
    return report


def _run_files(
    pred: Path, gt: Path, how: dict[str, Any], flags: dict[str, Any], error_maps: Path | None, quiet: bool
) -> tuple[Report, int]:
    """The report, and how many files had no partner."""
    from prv2cli.evaluation.config import Measuring, validated
    from prv2cli.evaluation.of_files import Reading, evaluate_pairs, find_pairs

    measuring = validated(Measuring, how, "the flags")
    pairs, alone = find_pairs(
        pred, gt, pred_suffix=flags.get("pred_suffix", ""), gt_suffix=flags.get("gt_suffix", "")
    )
    for line in alone:
        warn(line, quiet=quiet)
    with progress_bar("pairs", quiet=quiet) as progress:
        report = evaluate_pairs(
            pairs,
            measuring,
            pred_reading=Reading(flags.get("pred_scale"), flags.get("pred_kind")),
            gt_reading=Reading(flags.get("gt_scale"), flags.get("gt_kind")),
            resize=flags.get("resize"),
            error_maps=error_maps,
            progress=progress,
        )
    report.about = {"pred": str(pred), "gt": str(gt), "unmatched": alone}
    return report, len(alone)


def _print_tables(report: Report, per_image: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from prv2cli.evaluation.report import METRICS
    from prv2cli.files.text import shown

    console = Console(highlight=False)
    means = report.means()
    arrows = {-1: "lower", 1: "higher", 0: ""}
    table = Table(box=None, pad_edge=False)
    for title in (f"mean of {len(report.images)} images", "better", *report.rows):
        table.add_column(title, justify="left" if title not in report.rows else "right")
    for name, metric in METRICS.items():
        if any(name in figures for figures in means.values()):
            title = f"{metric.title} ({metric.unit})" if metric.unit else metric.title
            cells = [_cell(report, row, name, means[row].get(name)) for row in report.rows]
            table.add_row(Text(title), arrows[metric.better], *cells)
    console.print(table)
    if per_image:
        names = [name for name in SHOWN_PER_IMAGE if any(name in figures for figures in means.values())]
        details = Table(box=None, pad_edge=False)
        # Names differ at their ends: a pipe of 80 columns must not cut them off.
        details.add_column("image", overflow="fold")
        details.add_column("", no_wrap=True)
        for name in names:
            details.add_column(METRICS[name].title, justify="right", no_wrap=True)
        for image in report.images:
            for row, figures in image.figures.items():
                details.add_row(Text(shown(image.name)), row, *(_number(figures.get(name)) for name in names))
        console.print()
        console.print(details)


def _cell(report: Report, row: str, name: str, mean: float | None) -> str:
    """A mean, with the number of images where it is not all of them."""
    count = len(report.values(row, name))
    few = f" ({count})" if mean is not None and 0 < count < len(report.images) else ""
    return _number(mean) + few


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
