"""`prv2 eval`: the papers' metrics, of a model on a data set or of depth files against the truth."""

from __future__ import annotations

import json as json_module
from dataclasses import replace
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
    from prv2cli.datasets.samples import DataSet
    from prv2cli.evaluation.compare import Comparison
    from prv2cli.evaluation.config import EvalConfig
    from prv2cli.evaluation.report import Report

MEASURE = "How it is measured"
MODEL = "A model on a data set (--config)"
FILES = "Depth files (--pred, --gt)"


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
    compare_coarse: Annotated[
        list[str] | None,
        typer.Option(
            help="A coarse network to measure alone and refined; again for each network. Instead of --coarse.",
            rich_help_panel=MODEL,
        ),
    ] = None,
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
        model=model,
        coarse=coarse,
        compare_coarse=compare_coarse or None,
        device=device,
        precision=precision,
        limit=limit,
        consistency=consistency,
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
        found, complete = _run_model(config, changes, error_maps, quiet)
    else:
        assert pred is not None
        assert gt is not None
        found, complete = _run_files(pred, gt, how, of_files, error_maps, quiet)
    _tell(found, json=json, per_image=per_image, quiet=quiet)
    return 0 if complete else 1


def _tell(found: Report | Comparison, *, json: bool, per_image: bool, quiet: bool) -> None:
    """The notes on stderr, the figures on stdout."""
    from prv2cli.cli.eval_tables import print_comparison, print_report
    from prv2cli.evaluation.report import Report

    reports = [found] if isinstance(found, Report) else list(found.reports.values())
    for note in dict.fromkeys(note for report in reports for note in report.notes):
        warn(note, quiet=quiet)
    if json:
        emit(json_module.dumps(found.to_json(per_image=per_image), allow_nan=False))
    elif isinstance(found, Report):
        print_report(found, per_image=per_image)
    else:
        print_comparison(found, per_image=per_image)


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


def _run_model(
    path: Path, changes: dict[str, Any], error_maps: Path | None, quiet: bool
) -> tuple[Report | Comparison, bool]:
    """The figures, and whether nothing was left out."""
    from prv2cli.datasets.layouts import open_data
    from prv2cli.evaluation.compare import compare
    from prv2cli.evaluation.config import load_eval_config
    from prv2cli.evaluation.measure import with_boundaries

    config = load_eval_config(path, changes)
    with_boundaries(config.measure)  # a missing extra is said before the data set is listed
    data = open_data(config.data)
    about = {"data": config.data.model_dump(mode="json")}
    if not config.compare_coarse:
        report = _measured(config, config.coarse, data, error_maps, quiet)
        report.about = about | report.about
        return report, not report.broken

    def measured(coarse: str) -> Report:
        folder = None if error_maps is None else error_maps / coarse.replace("/", "_").replace(":", "_")
        return _measured(config, coarse, data, folder, quiet)

    comparison = compare(config.compare_coarse, measured, lambda line: warn(line, quiet=quiet))
    model = next(iter(comparison.reports.values())).about["model"]
    comparison.about = {**about, "model": model}
    return comparison, comparison.complete


def _measured(config: EvalConfig, coarse: str, data: DataSet, error_maps: Path | None, quiet: bool) -> Report:
    """The figures of one coarse network, alone and refined."""
    from prv2cli.evaluation.of_model import evaluate_model
    from prv2cli.refine.asked import AskedRefiner
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.request import RefineRequest

    request = RefineRequest(tiling_of(config.tile, config.overlap, config.mode, config.seed))
    models = models_of(
        config.model,
        coarse,
        None,
        config.device,
        config.precision,
        scene=config.scene,
        revision=config.revision,
        offline=config.offline,
    )
    # Metres that the network doubts are measured like all others.
    refiner = Refiner.load(replace(models, trusting=True))
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
    report.about = {"model": refiner.name, "coarse": refiner.coarse.name if refiner.coarse else None}
    return report


def _run_files(
    pred: Path, gt: Path, how: dict[str, Any], flags: dict[str, Any], error_maps: Path | None, quiet: bool
) -> tuple[Report, bool]:
    """The figures, and whether nothing was left out."""
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
    return report, not report.broken and not alone
