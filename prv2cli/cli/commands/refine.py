"""`prv2 refine`: one photograph in, one depth map of the same size out."""

from __future__ import annotations

import io
import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from prv2cli.choices import EMBEDDED
from prv2cli.cli.options import COARSE, OUTPUT, SPEED, ExportOption
from prv2cli.cli.refine_report import export_sentence, sentence, tell_estimate
from prv2cli.cli.shared import Shared, takes_shared
from prv2cli.cli.streams import binary_stdin, binary_stdout, emit, read_stdin
from prv2cli.cli.ui import configure_logging, progress_bar, say, warn_of_16_bits

if TYPE_CHECKING:
    from prv2cli.export.targets import Target
    from prv2cli.jobs.one_photo import FileJob, Outputs
    from prv2cli.photo.read import Photo
    from prv2cli.refine.estimate import Way
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.request import Models


@takes_shared
def refine(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="The photograph; - reads it from stdin.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The depth map: .tif, .png, .npy, .npz or .exr; - for stdout. "
            "Default <image>_depth.tif here.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help="Format where the name does not say it.", rich_help_panel=OUTPUT),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(help="Also write a coloured picture: .png, .jpg or .webp.", rich_help_panel=OUTPUT),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            help="Also write one picture, at most 1800 pixels wide: photograph, coarse depth, refined depth.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    confidence: Annotated[
        Path | None,
        typer.Option(
            help="Also write where the predictions of a pixel agree, 0..1 (1 = all the same): .tif, .png, .npy, .npz "
            "or .exr. Compares with the mirrored photograph, see --tta.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    export: ExportOption = None,
    overwrite: Annotated[
        bool | None,
        typer.Option(
            "--overwrite/--no-overwrite",
            help="Replace an existing output.",
            show_default="yes; without -o only what prv2 has written",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    coarse_depth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|embedded",
            help="Refine THIS depth map instead of running a coarse network, 8-bit grey pictures of one, too; "
            "embedded: the one that a phone put into the photograph.",
            rich_help_panel=COARSE,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what it would take: tiles, memory, time.", rich_help_panel=SPEED
        ),
    ] = False,
    *,
    shared: Shared,
) -> None:
    """Turn one photograph into a depth map of the same size."""
    from prv2cli.cli.places import check_default, check_exports, check_targets, model_places, the_one
    from prv2cli.errors import UsageError
    from prv2cli.export.targets import parse_target
    from prv2cli.jobs.one_photo import FileJob, refine_file
    from prv2cli.jobs.report import rounded
    from prv2cli.photo.opening import label_of

    quiet = shared.quiet
    configure_logging(quiet=quiet, verbose=shared.verbose)
    start = time.perf_counter()
    to_stdout = str(output) == "-"
    if shared.json and to_stdout:
        raise UsageError("--json and -o - would both write to stdout; give -o a file")
    # What can be refused is refused before anything is read and torch is imported, the rest before the model.
    image = the_one(images)
    target = output or _default_target(image, format)
    inputs = {
        "the photograph itself": image,
        "the map of --coarse-depth": None if str(coarse_depth) == EMBEDDED else coarse_depth,
        **model_places(shared.model, shared.coarse),
    }
    targets = {"-o": target, "--preview": preview, "--compare": compare, "--confidence": confidence}
    check_targets(targets, inputs, overwrite)
    if output is None and overwrite is None:
        check_default(target)
    exports = tuple(parse_target(text) for text in export or ())
    others = (target, preview, confidence, compare)
    check_exports(exports, inputs, overwrite=overwrite is not False, textured=True, others=others)
    outputs = _outputs(target, format, shared, confidence, preview, exports, compare)
    request = shared.request(confidence=confidence is not None)
    models = shared.models(coarse_depth)
    maps = shared.given(coarse_depth)
    label = label_of(image) if str(image) != "-" else "<stdin>"
    source = _source(image, again=maps is not None and maps.embedded)
    given = None
    if maps is not None:
        given = maps.read(None if maps.embedded else coarse_depth, source, label)
    job = FileJob(source, outputs, request, shared.most_pixels, given, name=label)
    if dry_run:
        tell_estimate(job, models, as_json=shared.json)
        return
    seconds: dict[str, float] = {}
    load = partial(_load, models, job, seconds, quiet)
    saved = refine_file(
        job, _way(job, models.device), load, seconds, partial(progress_bar, "tiles", quiet=quiet)
    )
    seconds["total"] = time.perf_counter() - start
    found = {**saved.summary, "seconds": rounded(seconds)}
    if found["unit"].endswith("relative") and given is None:
        known = f"{found['coarse'] or found['model']} knows near from far in this photograph, not metres"
        say(f"{known}: the depth is relative", quiet=quiet)
    warn_of_16_bits(saved.report, target, quiet=quiet)
    if shared.json:
        emit(json.dumps(found, allow_nan=False))
    elif not to_stdout:
        for line in (sentence(found, given), *map(export_sentence, found.get("exports", ()))):
            say(line, quiet=quiet)


# --- from flags to a job ----------------------------------------------------------------------------------


def _default_target(image: Path, format: str | None) -> Path:
    stem = "stdin" if str(image) == "-" else image.stem
    return Path(f"{stem}_depth.{(format or 'tif').lower().lstrip('.')}")


def _source(image: Path, *, again: bool) -> Path | BinaryIO:
    """The photograph's file or stream; `again`: one that can be read more than once."""
    from prv2cli.photo.opening import read_once

    if str(image) != "-":
        return read_once(image)
    return io.BytesIO(read_stdin()) if again else binary_stdin()


def _outputs(
    target: Path,
    format: str | None,
    shared: Shared,
    confidence: Path | None,
    preview: Path | None,
    exports: tuple[Target, ...],
    compare: Path | None,
) -> Outputs:
    """What is written and how. A type or scale that a format cannot have, or a missing extra, is found here already."""
    from prv2cli.depth_files.ours.encode import depth_format
    from prv2cli.depth_files.ours.encoding import confidence_encoding
    from prv2cli.jobs.one_photo import Outputs

    outputs = Outputs(
        target if str(target) != "-" else binary_stdout(),
        shared.encoding(depth_format(target, format)),
        confidence,
        None if confidence is None else confidence_encoding(confidence, shared.dtype),
        preview,
        exports,
        compare,
    )
    outputs.check()
    return outputs


# --- a job in this process --------------------------------------------------------------------------------


def _way(job: FileJob, device: str) -> Way:
    """Whether the photograph fits in memory. Raises InputError where it does not even fit in bands."""
    from prv2cli.jobs.one_photo import needs_of
    from prv2cli.refine.estimate import choose_way, fits_in_memory

    needs = needs_of(job)
    if needs is None or fits_in_memory(needs.memory):
        return "memory"
    from prv2cli.machine.devices import choose_device  # torch, which most photographs are decoded without

    needs = needs_of(job, on_host=choose_device(device).type == "cpu")
    assert needs is not None
    return choose_way(*needs)


def _load(models: Models, job: FileJob, seconds: dict[str, float], quiet: bool, photo: Photo) -> Refiner:
    """The models; what does not go together is refused first, as the refiner's header is enough to tell."""
    from prv2cli.coarse.aspect import check_aspect
    from prv2cli.machine.devices import choose_device, choose_precision
    from prv2cli.refine.estimate import check_coarse_pass
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.tiles.plan import plan_photograph

    for note in photo.notes:
        say(f"{photo.name}: {note}", quiet=quiet)
    for note in job.given.notes if job.given else ():
        say(note, quiet=quiet)
    start = time.perf_counter()
    choose_precision(models.precision, choose_device(models.device))
    height, width = photo.rgb.shape[:2]
    if job.given is not None and not job.given.stretched:
        check_aspect(job.given.values.shape, (height, width))
    cut = partial(plan_photograph, height=height, width=width, tiling=job.request.tiling)
    refiner = Refiner.load(models, cut)
    check_coarse_pass(refiner)
    seconds["load"] = time.perf_counter() - start
    return refiner
