"""`prv2 batch`: every photograph of a folder, a list or a pattern, one depth map each."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prv2cli.choices import EMBEDDED, EngineName
from prv2cli.cli.batch_report import Teller
from prv2cli.cli.options import COARSE, OUTPUT, ExportOption
from prv2cli.cli.shared import Shared, takes_shared
from prv2cli.cli.streams import read_stdin
from prv2cli.cli.ui import INTERRUPTED, configure_logging, stderr, warn

if TYPE_CHECKING:
    from prv2cli.cli.batch_report import Outcomes
    from prv2cli.files.protected import Protected
    from prv2cli.jobs.batch import BatchSettings, Job
    from prv2cli.jobs.planning.find import Found
    from prv2cli.jobs.planning.pairs import Pairs
    from prv2cli.refine.request import Models

WHICH = "Which files"
RAY = "Cluster"


@takes_shared
def batch(
    inputs: Annotated[
        list[Path], typer.Argument(help="Folders, photographs, patterns; - reads a list of paths from stdin.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="The output folder. Default <folder>_depth.", rich_help_panel=OUTPUT
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Folders with all below them.", rich_help_panel=WHICH)
    ] = False,
    null: Annotated[
        bool,
        typer.Option("-0", "--null", help="The list on stdin is separated by NUL.", rich_help_panel=WHICH),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only the I-th of N parts, for job arrays.", rich_help_panel=WHICH),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            help="Name of an output without its suffix; {stem}, {name}, {suffix} of the photograph.",
            rich_help_panel=OUTPUT,
        ),
    ] = "{stem}",
    format: Annotated[
        str, typer.Option("--format", help="tif, png, npy, npz or exr.", rich_help_panel=OUTPUT)
    ] = "tif",
    preview: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Also write a coloured picture beside each depth map, such as {stem}_preview.jpg; {stem} is the depth "
            "map's.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Also write where the predictions of a pixel agree, such as {stem}_confidence.tif; see prv2 refine.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    export: ExportOption = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Make every output again, also those made from the same photograph with the same settings, and "
            "replace files that prv2 did not write.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Read all the pixels of a finished output before it counts as done.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    coarse_depth: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|embedded",
            help="Refine the depth maps of this folder instead of running a coarse network, each at the place and with "
            "the name of its photograph; embedded: those that a phone put into the photographs.",
            rich_help_panel=COARSE,
        ),
    ] = None,
    coarse_name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Other names of these maps, such as {stem}_depth.png; {stem}, {name}, {suffix} of the photograph.",
            rich_help_panel=COARSE,
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="local: this process. ray: the Ray cluster at RAY_ADDRESS, or without it a Ray on this machine; "
            "its nodes must share the files.",
            rich_help_panel=RAY,
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes of --engine ray. Default one a GPU, without GPUs by CPUs and memory.",
            rich_help_panel=RAY,
        ),
    ] = None,
    *,
    shared: Shared,
) -> int:
    """Depth maps of many photographs; a second run does only what is missing or was made with other settings."""
    from prv2cli.depth_files.ours.encode import depth_format
    from prv2cli.depth_files.ours.encoding import check_encoding
    from prv2cli.export.targets import parse_target
    from prv2cli.files.parts import file_and_part
    from prv2cli.jobs.batch import BatchSettings
    from prv2cli.jobs.companions import Companions, without_clashes
    from prv2cli.jobs.planning.outputs import SUFFIX_OF, Shard, check_template, plan

    configure_logging(quiet=shared.quiet, verbose=shared.verbose)
    encoding = shared.encoding(depth_format(Path("-"), format))
    suffix = SUFFIX_OF[encoding.format]
    check_encoding(encoding)
    companions = Companions(confidence, preview, tuple(parse_target(text) for text in export or ()))
    companions.check(encoding, suffix)
    request = shared.request(confidence=confidence is not None)
    models = shared.models(coarse_depth)
    maps = shared.given(coarse_depth)
    if maps is not None and coarse_name is not None:
        maps = replace(maps, part=file_and_part(Path(coarse_name))[1])
    _check_engine(engine, workers, shared.device)
    folder = _output_folder(inputs, output)
    check_template(name)
    found = _photographs(inputs, recursive, null, folder)
    pairs = _paired(found, coarse_depth, coarse_name, recursive, folder)
    protected = _protected(found, pairs, inputs, shared)
    photographs = found.photographs if pairs is None else pairs.photographs
    planned = plan(photographs, folder, name, suffix, protected)
    jobs, clashing = without_clashes(planned.jobs, companions, protected)
    if pairs is not None:
        jobs = [replace(job, coarse_depth=pairs.map_of[job.source]) for job in jobs]
    part = Shard.parse(shard or "1/1")
    jobs = [job for job in jobs if part.has_job(job, folder)]
    settings = BatchSettings(
        encoding,
        request,
        shared.most_pixels,
        overwrite,
        verify,
        maps=maps,
        companions=companions,
    )
    make = partial(_on_ray, workers=workers) if engine == "ray" else _here
    start = partial(make, jobs, settings, folder, models)
    for note in planned.notes:
        warn(note, quiet=shared.quiet)
    teller = Teller(len(jobs), folder, as_json=shared.json, quiet=shared.quiet)
    teller.left_out([*found.left_out, *(pairs.left_out if pairs else ())])
    unseen = [*found.unseen, *(pairs.unseen if pairs else ())]
    refused = [one for one in (*planned.refused, *clashing) if part.has_job(one[0], folder)]
    unpaired = [one for one in (pairs.unpaired if pairs else ()) if part.has(one[0].name)]
    teller.failed([*unseen, *unpaired, *refused])
    return teller.run(start if jobs else None)


def _check_engine(engine: EngineName, workers: int | None, device: str) -> None:
    from prv2cli.errors import UsageError
    from prv2cli.jobs.engines.ray import check_device, import_ray

    if engine == "ray":
        check_device(device)
        import_ray()
    elif workers is not None:
        raise UsageError("--workers is about a cluster; add --engine ray")


def _here(jobs: list[Job], settings: BatchSettings, folder: Path, models: Models) -> Outcomes:
    from prv2cli.jobs.claims import Claims
    from prv2cli.jobs.engines.local import run_batch
    from prv2cli.refine.refiner import Refiner

    return run_batch(jobs, Refiner.load(models, settings.check_model), settings, Claims(folder))


def _on_ray(
    jobs: list[Job], settings: BatchSettings, folder: Path, models: Models, workers: int | None
) -> Outcomes:
    from prv2cli.jobs.batch import run_on
    from prv2cli.jobs.engines.ray import RayEngine, end_at_once, load_refiner

    load = partial(load_refiner, models, settings.check_model)
    try:
        engine = RayEngine(load, settings, folder, workers=workers, jobs=len(jobs), device=models.device)
    except KeyboardInterrupt:
        stderr.print("interrupted", markup=False)
        sys.stderr.flush()
        end_at_once(INTERRUPTED)
    return run_on(engine, jobs)


def _output_folder(inputs: list[Path], output: Path | None) -> Path:
    from prv2cli.errors import OutputError, UsageError

    if output is None:
        if len(inputs) != 1 or not inputs[0].is_dir():
            raise UsageError("-o OUTDIR: say where the outputs go; only a single folder has a default")
        given = inputs[0].resolve()
        if not given.name:
            raise UsageError(f"-o OUTDIR: say where the outputs go; nothing lies beside {given}")
        output = given.with_name(f"{given.name}_depth")
    if output.exists() and not output.is_dir():
        raise OutputError(f"-o {output}: that is a file; name a folder")
    return output


def _photographs(inputs: list[Path], recursive: bool, nul: bool, out: Path) -> Found:
    from prv2cli.errors import InputError, UsageError
    from prv2cli.jobs.planning.find import find_photographs, listed_photographs

    if Path("-") in inputs:
        if len(inputs) > 1:
            raise UsageError("- reads the whole list from stdin; leave out the other inputs")
        found = listed_photographs(read_stdin(), nul=nul)
        source = "the list on stdin"
    else:
        if nul:
            raise UsageError("-0 is about a list on stdin; give - as the input")
        found = find_photographs(inputs, recursive=recursive, leave_out=out)
        source = ", ".join(map(str, inputs))
    if not (found.photographs or found.left_out or found.unseen):
        hint = "" if recursive or source.startswith("the list") else " (-r looks into the folders below)"
        raise InputError(f"no photograph in {source}{hint}")
    return found


def _paired(
    found: Found, folder: Path | None, template: str | None, recursive: bool, out: Path
) -> Pairs | None:
    """The photographs with their maps; None where there is no folder of maps. Raises UsageError."""
    from prv2cli.errors import UsageError
    from prv2cli.jobs.planning.pairs import pair

    if folder is None or str(folder) == EMBEDDED:
        if template is not None:
            raise UsageError(
                "--coarse-name is about the files in a folder of maps; give --coarse-depth FOLDER"
            )
        return None
    return pair(found.photographs, folder, template, recursive=recursive, leave_out=out)


def _protected(found: Found, pairs: Pairs | None, inputs: list[Path], shared: Shared) -> Protected:
    """What no output may replace: every photograph and map, also of other parts, the list, the models."""
    from prv2cli.cli.places import model_places
    from prv2cli.files.protected import Protected

    protected = Protected()
    for photograph, _ in found.photographs:
        protected.add("a photograph", photograph)
    for given in pairs.maps if pairs else ():
        protected.add("a map of --coarse-depth", given)
    if Path("-") in inputs:
        protected.add("the list on stdin", Path("-"))
    for what, path in model_places(shared.model, shared.coarse).items():
        protected.add(what, path, inside=True)
    return protected
