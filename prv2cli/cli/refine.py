"""`prv2 refine`: one photograph in, one depth map of the same size out."""

from __future__ import annotations

import json as json_module
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prv2cli.cli.files import DtypeName, KindName
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
    TtaName,
    TtaOption,
    check_models,
    check_tiling,
)
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
    from prv2cli.depth_files.encoding import Encoding
    from prv2cli.depth_files.metadata import DepthMetadata
    from prv2cli.depth_files.read import DepthMap
    from prv2cli.depth_files.write import WriteReport
    from prv2cli.photo.read import Photo
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.result import Depth


def refine(
    image: Annotated[Path, typer.Argument(help="The photograph; - reads it from stdin.")],
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
        bool,
        typer.Option(
            "--overwrite/--no-overwrite", help="Replace an existing output.", rich_help_panel=OUTPUT
        ),
    ] = True,
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
            help="Refine THIS depth map instead of running a coarse network.", rich_help_panel=COARSE
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
        KindName | None,
        typer.Option(help="Whether it holds depth or inverse depth (disparity).", rich_help_panel=COARSE),
    ] = None,
    tile: TileOption = "0",
    overlap: OverlapOption = None,
    batch_size: Annotated[
        int, typer.Option(min=0, help="Tiles at a time; 0 = from the free memory.", rich_help_panel=SPEED)
    ] = 0,
    mode: ModeOption = None,
    seed: SeedOption = 0,
    tta: TtaOption = TtaName.auto,
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
    from prv2cli.errors import UsageError
    from prv2cli.jobs.report import describe, describe_confidence, summary

    configure_logging(quiet=quiet, verbose=verbose)
    start = time.perf_counter()
    to_stdout = str(output) == "-"
    if json and to_stdout:
        raise UsageError("--json and -o - would both write to stdout; give -o a file")
    # What can be refused is refused before anything is read and torch is imported, the rest before the model.
    target = output or _default_target(image, format)
    _check_targets({"-o": target, "--preview": preview, "--confidence": confidence}, image, overwrite)
    encoding = _check_encoding(target, format, dtype, depth_scale, inverse, preview)
    certain = _check_confidence(confidence, dtype)
    passes: dict[str, Any] = {"tta": tta.value, "confidence": certain is not None}
    tiling = check_tiling(tile, overlap, mode, seed)
    models = check_models(
        model, coarse, coarse_depth, device, precision, scene=scene, revision=revision, offline=offline
    )
    given = _read_coarse(coarse_depth, coarse_scale, coarse_relative, coarse_kind)
    if dry_run:
        _tell_estimate(image, max_pixels, tiling | passes, models, device, precision, as_json=json)
        return
    on_disk = _is_too_large(image, max_pixels, tiling, passes)
    stack = ExitStack()  # holds the temporary files of a photograph that does not fit in memory
    encodings = [encoding] if certain is None else [encoding, certain]
    photo = _open_photo(image, max_pixels, target, encodings, stack, on_disk=on_disk)
    seconds = {"decode": time.perf_counter() - start}
    for note in photo.notes:
        say(f"{photo.name}: {note}", quiet=quiet)

    began = time.perf_counter()
    refiner = _load(models, photo, given, tiling, device, precision)
    seconds["load"] = time.perf_counter() - began
    with stack:
        with progress_bar("tiles", quiet=quiet) as progress:
            options: dict[str, Any] = {
                "coarse_depth": None if given is None else given.values,
                "coarse_kind": "depth" if given is None else given.metadata.kind,
                "coarse_unit": "relative" if given and given.metadata.unit.endswith("relative") else "metre",
                "focal_px": focal_px or photo.focal_px,
                "batch_size": batch_size,
                "progress": progress,
                **tiling,
                **passes,
            }
            result = _refine(refiner, photo, options, stack, on_disk=on_disk)
        metadata = describe(refiner, result, photo, coarse_file=coarse_depth, focal_px=focal_px)
        began = time.perf_counter()
        told = None
        with ExitStack() as pending:  # both files take their places, or neither
            if confidence is not None and certain is not None:
                about = describe_confidence(refiner, metadata)
                told = _write(confidence, result.confidence, about, certain, pending, on_disk=on_disk)
            report = _write(target, result.depth, metadata, encoding, pending, on_disk=on_disk)
        if preview is not None:
            from prv2cli.depth_files.preview import write_preview

            write_preview(preview, result.depth)
        seconds |= {
            **result.seconds,
            "encode": time.perf_counter() - began,
            "total": time.perf_counter() - start,
        }
        found = summary(str(image), str(target), result, photo, metadata, report, seconds)
        found["confidence"] = _about_confidence(confidence, result.confidence, told)
        sentence = _sentence(target, result, metadata, seconds["total"])
    warn_of_16_bits(report, target, quiet=quiet)
    if json:
        found["preview"] = str(preview) if preview else None
        typer.echo(json_module.dumps(found, allow_nan=False))
    elif not to_stdout:
        say(sentence, quiet=quiet)


# --- refusals ---------------------------------------------------------------------------------------------


def _default_target(image: Path, format: str | None) -> Path:
    stem = "stdin" if str(image) == "-" else image.stem
    return Path(f"{stem}_depth.{(format or 'tif').lower().lstrip('.')}")


def _check_encoding(
    target: Path,
    format: str | None,
    dtype: DtypeName | None,
    scale: float,
    inverse: bool,
    preview: Path | None,
) -> Encoding:
    """How to store the map. A type or scale that the format cannot have, or a missing extra, is found here already."""
    from prv2cli.depth_files.encode import depth_format
    from prv2cli.depth_files.encoding import Encoding, check_encoding
    from prv2cli.depth_files.preview import preview_format

    encoding = Encoding(depth_format(target, format), dtype.value if dtype else None, scale, inverse)
    if preview is not None:
        preview_format(preview)
    check_encoding(encoding)
    return encoding


def _check_confidence(path: Path | None, dtype: DtypeName | None) -> Encoding | None:
    """How to store the confidence, None where it is not asked for."""
    from prv2cli.depth_files.encoding import check_encoding, confidence_encoding

    if path is None:
        return None
    encoding = confidence_encoding(path, dtype.value if dtype else None)
    check_encoding(encoding)
    return encoding


def _check_targets(targets: dict[str, Path | None], image: Path, overwrite: bool) -> None:
    """Every place that will be written to, by its flag; "-o" is the first."""
    from prv2cli.errors import OutputError, UsageError
    from prv2cli.files.atomic import check_output

    places: dict[str, str] = {}  # the true path -> its flag
    for flag, path in targets.items():
        if path is None or str(path) == "-":
            continue
        check_output(path)
        if path.exists() and image.exists() and path.samefile(image):
            raise UsageError(f"{flag} {path}: that is the photograph itself; choose another name")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; remove it or leave out --no-overwrite")
        what = places.setdefault(os.path.realpath(path), flag)
        if what != flag:
            taken = "the depth map itself" if what == "-o" else f"the file of {what}"
            raise UsageError(f"{flag} {path}: that is {taken}; choose another name")


# --- reading, loading, writing ----------------------------------------------------------------------------


def _is_too_large(
    image: Path, max_pixels: int | None, tiling: dict[str, Any], passes: dict[str, Any]
) -> bool:
    """Whether the photograph must be worked on in bands. Raises InputError where not even that fits."""
    from prv2cli.errors import Prv2Error
    from prv2cli.photo.header import read_header
    from prv2cli.photo.opening import MAX_PIXELS_DEFAULT
    from prv2cli.refine.estimate import choose_way, memory_for

    if str(image) == "-":
        return False
    try:
        header = read_header(image, max_pixels=max_pixels or MAX_PIXELS_DEFAULT)
    except Prv2Error:
        return False  # reading it will say what is wrong with it
    return choose_way(header, memory_for(header, tiling["tile"], **passes)) == "bands"


def _open_photo(
    image: Path,
    max_pixels: int | None,
    target: Path,
    encodings: list[Encoding],
    stack: ExitStack,
    *,
    on_disk: bool,
) -> Photo:
    from prv2cli.photo.opening import MAX_PIXELS_DEFAULT
    from prv2cli.photo.read import read_photo

    limit = max_pixels or MAX_PIXELS_DEFAULT
    if str(image) == "-":
        return read_photo(sys.stdin.buffer, max_pixels=limit, name="<stdin>")
    if not on_disk:
        return read_photo(image, max_pixels=limit)
    from prv2cli.photo.on_disk import photo_on_disk
    from prv2cli.refine.streaming import check_streamed

    for encoding in encodings:
        check_streamed(encoding)
    folder = Path() if str(target) == "-" else target.parent
    return stack.enter_context(photo_on_disk(image, folder, max_pixels=limit))


def _refine(
    refiner: Refiner, photo: Photo, options: dict[str, Any], stack: ExitStack, *, on_disk: bool
) -> Depth:
    if not on_disk:
        return refiner.refine(photo.rgb, **options)
    from prv2cli.refine.streaming import refine_streamed

    options.pop("seed")  # of the paper's random tiles, which are refused
    pixels: Any = photo.rgb
    return stack.enter_context(refine_streamed(refiner, pixels, **options))


def _write(
    target: Path,
    depth: Any,
    metadata: DepthMetadata,
    encoding: Encoding,
    pending: ExitStack,
    *,
    on_disk: bool,
) -> WriteReport:
    from prv2cli.depth_files.encoding import write

    place = sys.stdout.buffer if str(target) == "-" else target
    if not on_disk:
        return write(place, depth, metadata, encoding, pending=pending)
    from prv2cli.refine.streaming import write_streamed

    return write_streamed(place, depth, metadata, encoding, pending=pending)


def _about_confidence(
    path: Path | None, confidence: Any, report: WriteReport | None
) -> dict[str, Any] | None:
    from prv2cli.jobs.report import confidence_summary

    if path is None or report is None:
        return None
    return confidence_summary(path, confidence, report)


def _tell_estimate(
    image: Path,
    max_pixels: int | None,
    options: dict[str, Any],
    models: dict[str, Any],
    device: str,
    precision: str,
    *,
    as_json: bool,
) -> None:
    """--dry-run: what the run would take, on stdout."""
    from prv2cli.errors import UsageError
    from prv2cli.photo.header import read_header
    from prv2cli.photo.opening import MAX_PIXELS_DEFAULT
    from prv2cli.refine.estimate import dry_run
    from prv2cli.refine.refiner import Refiner

    if str(image) == "-":
        raise UsageError("--dry-run reads a file's header; give a file instead of -")
    header = read_header(image, max_pixels=max_pixels or MAX_PIXELS_DEFAULT)
    refiner = Refiner.from_pretrained(**models, device=device, precision=precision)
    found = dry_run(refiner, header, **options)
    facts = {
        "input": str(image),
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
        typer.echo(json_module.dumps(facts, allow_nan=False))
        return
    took = "an unknown time" if found.seconds is None else f"about {found.seconds:.0f} s"
    typer.echo(
        f"{image}: {header.width}x{header.height}, {found.tiles} tiles ({found.tiling}), "
        f"{found.host_bytes / 1e9:.1f} GB of memory, {took}"
    )


def _read_coarse(
    path: Path | None, scale: float | None, relative: bool, kind: KindName | None
) -> DepthMap | None:
    from prv2cli.errors import UsageError

    if path is None:
        flags = {
            "--coarse-scale": scale is not None,
            "--coarse-relative": relative,
            "--coarse-kind": kind is not None,
        }
        for flag, given in flags.items():
            if given:
                raise UsageError(f"{flag} describes a depth map; give it with --coarse-depth FILE")
        return None
    if relative and scale is not None:
        raise UsageError("--coarse-scale and --coarse-relative exclude each other")
    from prv2cli.depth_files.read import read_depth

    return read_depth(
        path,
        scale=scale,
        kind=kind.value if kind else None,
        relative=relative,
        scale_flag="--coarse-scale",
        relative_flag="--coarse-relative",
    )


def _load(
    models: dict[str, Any],
    photo: Photo,
    given: DepthMap | None,
    tiling: dict[str, Any],
    device: str,
    precision: str,
) -> Refiner:
    """The models; what does not go together is refused first, as the refiner's header is enough to tell."""
    from prv2cli.coarse.aspect import check_aspect
    from prv2cli.hub.registry import DEFAULT_REFINER
    from prv2cli.hub.resolve import resolve
    from prv2cli.machine.devices import choose_device, choose_precision
    from prv2cli.model.config import BundleConfig, RefinerConfig
    from prv2cli.refine.load import model_config
    from prv2cli.refine.plan import plan_photograph
    from prv2cli.refine.refiner import Refiner

    choose_precision(precision, choose_device(device))
    height, width = photo.rgb.shape[:2]
    if given is not None:
        check_aspect(given.values.shape, (height, width))
    name = DEFAULT_REFINER if models["model"] == "auto" else models["model"]
    config = model_config(resolve(name, revision=models["revision"], offline=models["offline"]))
    config = config.refiner if isinstance(config, BundleConfig) else config
    if isinstance(config, RefinerConfig):  # anything else is refused by the refiner itself
        plan_photograph(config, height, width, **tiling)
    return Refiner.from_pretrained(**models, device=device, precision=precision)


def _sentence(target: Path, result: Depth, metadata: DepthMetadata, seconds: float) -> str:
    height, width = result.depth.shape
    unit = "m" if metadata.unit == "metre" else "(no unit)"
    low, high = float(result.depth.min()), float(result.depth.max())
    return (
        f"{target}: {width}x{height}, {low:.2f} to {high:.2f} {unit}, {result.tiles} tile(s), {seconds:.1f} s"
    )
