"""`prv2 refine`: one photograph in, one depth map of the same size out."""

from __future__ import annotations

import json as json_module
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prv2cli.choices import Dtype, Kind
from prv2cli.cli.options import (
    COARSE,
    OUTPUT,
    SPEED,
    CoarseOption,
    DepthScaleOption,
    DtypeOption,
    InverseOption,
    MaxPixelsOption,
    ModelOption,
    ModeOption,
    OfflineOption,
    OverlapOption,
    RevisionOption,
    SceneOption,
    SeedOption,
    TileOption,
    TtaOption,
    models_of,
    tiling_of,
)
from prv2cli.cli.streams import binary_stdin, binary_stdout, emit
from prv2cli.cli.ui import (
    DeviceOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    VerboseOption,
    configure_logging,
    progress_bar,
    say,
    warn_of_16_bits,
)

if TYPE_CHECKING:
    from prv2cli.jobs.one_photo import FileJob, Outputs
    from prv2cli.photo.read import Photo
    from prv2cli.refine.estimate import Way
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.request import GivenDepth, Models


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
    dtype: DtypeOption = None,
    depth_scale: DepthScaleOption = 256.0,
    inverse: InverseOption = False,
    preview: Annotated[
        Path | None,
        typer.Option(help="Also write a coloured picture: .png, .jpg or .webp.", rich_help_panel=OUTPUT),
    ] = None,
    confidence: Annotated[
        Path | None,
        typer.Option(
            help="Also write where the predictions of a pixel agree, 0..1 (1 = all the same): .tif, .png, .npy, .npz "
            "or .exr. Compares with the mirrored photograph, see --tta.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool | None,
        typer.Option(
            "--overwrite/--no-overwrite",
            help="Replace an existing output.",
            show_default="yes; without -o only what prv2 has written",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    model: ModelOption = "auto",
    revision: RevisionOption = None,
    offline: OfflineOption = False,
    coarse: CoarseOption = "auto",
    scene: SceneOption = None,
    focal_px: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Focal length in pixels of the photograph, where EXIF does not tell it.",
            rich_help_panel=COARSE,
        ),
    ] = None,
    coarse_depth: Annotated[
        Path | None,
        typer.Option(
            help="Refine THIS depth map instead of running a coarse network; 8-bit grey pictures of one, too.",
            rich_help_panel=COARSE,
        ),
    ] = None,
    coarse_scale: Annotated[
        float | None,
        typer.Option(
            help="Its stored numbers per metre, where its file does not say so.", rich_help_panel=COARSE
        ),
    ] = None,
    coarse_relative: Annotated[
        bool,
        typer.Option(
            "--coarse-relative",
            help="It has no physical unit; the output will say so.",
            rich_help_panel=COARSE,
        ),
    ] = False,
    coarse_kind: Annotated[
        Kind | None,
        typer.Option(help="Whether it holds depth or inverse depth (disparity).", rich_help_panel=COARSE),
    ] = None,
    coarse_invalid: Annotated[
        str | None,
        typer.Option(
            help="Which of its numbers means no value: a number, zero or none. Default: 0 and below in a map of "
            "metres; in a relative one none, where 0 is as far (inverse) or as near (depth) as can be.",
            metavar="VALUE|zero|none",
            rich_help_panel=COARSE,
        ),
    ] = None,
    coarse_stretch: Annotated[
        bool,
        typer.Option(
            "--coarse-stretch",
            help="It covers the whole photograph, although its aspect is another (networks with a fixed input).",
            rich_help_panel=COARSE,
        ),
    ] = False,
    tile: TileOption = "0",
    overlap: OverlapOption = None,
    batch_size: Annotated[
        int, typer.Option(min=0, help="Tiles at a time; 0 = from the free memory.", rich_help_panel=SPEED)
    ] = 0,
    mode: ModeOption = None,
    seed: SeedOption = 0,
    tta: TtaOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    max_pixels: MaxPixelsOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what it would take: tiles, memory, time.", rich_help_panel=SPEED
        ),
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Turn one photograph into a depth map of the same size."""
    from prv2cli.cli.places import MODELS, check_default, check_targets, the_one
    from prv2cli.errors import UsageError
    from prv2cli.jobs.one_photo import FileJob, refine_file
    from prv2cli.jobs.report import rounded
    from prv2cli.photo.opening import MAX_PIXELS_DEFAULT, label_of, read_once
    from prv2cli.refine.request import RefineRequest

    configure_logging(quiet=quiet, verbose=verbose)
    start = time.perf_counter()
    to_stdout = str(output) == "-"
    if json and to_stdout:
        raise UsageError("--json and -o - would both write to stdout; give -o a file")
    # What can be refused is refused before anything is read and torch is imported, the rest before the model.
    image = the_one(images)
    target = output or _default_target(image, format)
    inputs = {
        "the photograph itself": image,
        "the map of --coarse-depth": coarse_depth,
        **dict(zip(MODELS, (Path(model), Path(coarse)), strict=True)),
    }
    check_targets({"-o": target, "--preview": preview, "--confidence": confidence}, inputs, overwrite)
    if output is None and overwrite is None:
        check_default(target)
    outputs = _outputs(target, format, dtype, depth_scale, inverse, confidence, preview)
    tiling = tiling_of(tile, overlap, mode, seed)
    request = RefineRequest(tiling, batch_size, tta, confidence is not None, focal_px)
    models = models_of(
        model,
        coarse,
        coarse_depth,
        device,
        precision,
        scene=scene,
        revision=revision,
        offline=offline,
    )
    given = _read_coarse(
        coarse_depth, coarse_scale, coarse_relative, coarse_kind, coarse_invalid, coarse_stretch
    )
    job = FileJob(
        read_once(image) if str(image) != "-" else binary_stdin(),
        outputs,
        request,
        max_pixels or MAX_PIXELS_DEFAULT,
        given,
        coarse_depth,
        name=label_of(image) if str(image) != "-" else "<stdin>",
    )
    if dry_run:
        _tell_estimate(job, models, as_json=json)
        return
    seconds: dict[str, float] = {}
    load = partial(_load, models, job, seconds, quiet)
    saved = refine_file(job, _way(job), load, seconds, partial(progress_bar, "tiles", quiet=quiet))
    seconds["total"] = time.perf_counter() - start
    found = {**saved.summary, "seconds": rounded(seconds)}
    if found["unit"].endswith("relative") and given is None:
        known = f"{found['coarse'] or found['model']} knows near from far in this photograph, not metres"
        say(f"{known}: the depth is relative", quiet=quiet)
    warn_of_16_bits(saved.report, target, quiet=quiet)
    if json:
        emit(json_module.dumps(found, allow_nan=False))
    elif not to_stdout:
        say(_sentence(found), quiet=quiet)


# --- from flags to a job ----------------------------------------------------------------------------------


def _default_target(image: Path, format: str | None) -> Path:
    stem = "stdin" if str(image) == "-" else image.stem
    return Path(f"{stem}_depth.{(format or 'tif').lower().lstrip('.')}")


def _outputs(
    target: Path,
    format: str | None,
    dtype: Dtype | None,
    scale: float,
    inverse: bool,
    confidence: Path | None,
    preview: Path | None,
) -> Outputs:
    """What is written and how. A type or scale that a format cannot have, or a missing extra, is found here already."""
    from prv2cli.depth_files.ours.encode import depth_format
    from prv2cli.depth_files.ours.encoding import Encoding, confidence_encoding
    from prv2cli.jobs.one_photo import Outputs

    outputs = Outputs(
        target if str(target) != "-" else binary_stdout(),
        Encoding(depth_format(target, format), dtype, scale, inverse),
        confidence,
        None if confidence is None else confidence_encoding(confidence, dtype),
        preview,
    )
    outputs.check()
    return outputs


# --- a job in this process --------------------------------------------------------------------------------


def _way(job: FileJob) -> Way:
    """Whether the photograph fits in memory. Raises InputError where it does not even fit in bands."""
    from prv2cli.jobs.one_photo import needs_of
    from prv2cli.refine.estimate import choose_way

    needs = needs_of(job)
    return "memory" if needs is None else choose_way(*needs)


def _load(models: Models, job: FileJob, seconds: dict[str, float], quiet: bool, photo: Photo) -> Refiner:
    """The models; what does not go together is refused first, as the refiner's header is enough to tell."""
    from prv2cli.coarse.aspect import check_aspect
    from prv2cli.hub.registry import DEFAULT_REFINER
    from prv2cli.hub.resolve import resolve
    from prv2cli.machine.devices import choose_device, choose_precision
    from prv2cli.model.config import BundleConfig, RefinerConfig
    from prv2cli.refine.estimate import check_coarse_pass
    from prv2cli.refine.load import model_config
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
    name = DEFAULT_REFINER if models.model == "auto" else models.model
    config = model_config(resolve(name, revision=models.revision, offline=models.offline))
    if isinstance(config, RefinerConfig | BundleConfig):  # anything else is refused by the refiner itself
        plan_photograph(config, height, width, job.request.tiling)
    refiner = Refiner.load(models)
    check_coarse_pass(refiner)
    seconds["load"] = time.perf_counter() - start
    return refiner


def _sentence(found: dict[str, Any]) -> str:
    unit = "m" if found["unit"] == "metre" else "(no unit)"
    width, height, masked = found["width"], found["height"], found["masked"]
    ends = "" if found["min"] is None else f"{found['min']:.2f} to {found['max']:.2f} {unit}, "
    sky = f"{masked / (width * height):.0%} sky without depth, " if masked else ""
    return (
        f"{found['output']}: {width}x{height}, {ends}{sky}"
        f"{found['tiles']} tile(s), {found['seconds']['total']:.1f} s"
    )


def _tell_estimate(job: FileJob, models: Models, *, as_json: bool) -> None:
    """--dry-run: what the run would take, on stdout."""
    from prv2cli.photo.header import read_header
    from prv2cli.refine.estimate import dry_run
    from prv2cli.refine.refiner import Refiner

    header = read_header(job.source, max_pixels=job.max_pixels, name=job.name)
    found = dry_run(Refiner.load(models), header, job.request)
    facts = {
        "input": job.place,
        "width": header.width,
        "height": header.height,
        "tiles": found.tiles,
        "tiling": found.tiling,
        "way": found.way,
        "memory_bytes": found.host_bytes,
        "disk_bytes": found.memory.disk if found.way == "bands" else 0,
        "seconds": None if found.seconds is None else round(found.seconds, 3),
    }
    if as_json:
        emit(json_module.dumps(facts, allow_nan=False))
        return
    took = "an unknown time" if found.seconds is None else f"about {found.seconds:.0f} s"
    emit(
        f"{header.name}: {header.width}x{header.height}, {found.tiles} tiles ({found.tiling}), "
        f"{found.host_bytes / 1e9:.1f} GB of memory, {took}"
    )


def _read_coarse(
    path: Path | None,
    scale: float | None,
    relative: bool,
    kind: Kind | None,
    invalid: str | None,
    stretch: bool,
) -> GivenDepth | None:
    from prv2cli.errors import UsageError

    if path is None:
        flags = {
            "--coarse-scale": scale is not None,
            "--coarse-relative": relative,
            "--coarse-kind": kind is not None,
            "--coarse-invalid": invalid is not None,
            "--coarse-stretch": stretch,
        }
        for flag, given in flags.items():
            if given:
                raise UsageError(f"{flag} describes a depth map; give it with --coarse-depth FILE")
        return None
    if relative and scale is not None:
        raise UsageError("--coarse-scale and --coarse-relative exclude each other")
    from prv2cli.depth_files.given_map import parse_invalid, read_given
    from prv2cli.refine.request import GivenDepth

    found = read_given(
        path,
        scale=scale,
        kind=kind,
        relative=relative,
        invalid=parse_invalid(invalid),
    )
    return GivenDepth(found.values, found.kind, found.unit, found.half_step, stretch, found.notes)
