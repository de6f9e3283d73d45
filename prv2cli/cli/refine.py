"""`prv2 refine`: one photograph in, one depth map of the same size out."""

from __future__ import annotations

import io
import json as json_module
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prv2cli.cli.files import DtypeName, KindName
from prv2cli.cli.ui import (
    DeviceOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    progress_bar,
    say,
    warn,
    warn_of_16_bits,
)

if TYPE_CHECKING:
    from prv2cli.depth_files import DepthMap, WriteReport
    from prv2cli.depth_metadata import DepthMetadata
    from prv2cli.images import Photo
    from prv2cli.inference import Depth, Refiner

COARSE = "Coarse depth"
OUTPUT = "Output"
SPEED = "Speed and memory"


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
    dtype: Annotated[
        DtypeName | None, typer.Option(help="Of a TIFF. Default uint16.", rich_help_panel=OUTPUT)
    ] = None,
    depth_scale: Annotated[
        float,
        typer.Option(
            help="Units per metre of 16-bit files: 256 KITTI, 1000 millimetres, 5000 TUM.",
            rich_help_panel=OUTPUT,
        ),
    ] = 256.0,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Write inverse depth (1/m).", rich_help_panel=OUTPUT)
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(help="Also write a coloured picture: .png, .jpg or .webp.", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite/--no-overwrite", help="Replace an existing output.", rich_help_panel=OUTPUT
        ),
    ] = True,
    model: Annotated[
        str,
        typer.Option(
            "-m", "--model", help="The refiner: a name that prv2 knows, a checkpoint file, or auto."
        ),
    ] = "auto",
    coarse: Annotated[
        str | None,
        typer.Option(
            help="The coarse network: a name that prv2 knows or a checkpoint file. Default lite.",
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
    tile: Annotated[
        str, typer.Option(metavar="H[xW]", help="Tile size in pixels; 0 = chosen.", rich_help_panel=SPEED)
    ] = "0",
    overlap: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.5, help="Share of a tile that neighbours have in common.", rich_help_panel=SPEED
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=0, help="Tiles at a time; 0 = from the free memory.", rich_help_panel=SPEED)
    ] = 0,
    mode: Annotated[
        str | None,
        typer.Option(
            help="The paper's tilings: m1, m2 or rN. Default: one feathered grid.", rich_help_panel=SPEED
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random tiles of rN.", rich_help_panel=SPEED)] = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    max_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Refuse larger photographs. Default 700 million.", rich_help_panel=SPEED),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turn one photograph into a depth map of the same size."""
    from prv2cli.errors import UsageError

    start = time.perf_counter()
    to_stdout = str(output) == "-"
    if json and to_stdout:
        raise UsageError("--json and -o - would both write to stdout; give -o a file")
    # What can be refused is refused before anything is read and torch is imported, the rest before the model.
    target = output or _default_target(image, format)
    _check_targets(target, preview, image, overwrite)
    fmt = _check_format(target, format, dtype, depth_scale, preview)
    tiling = _check_tiling(tile, overlap, mode, seed)
    name, network = _check_model(model, coarse, coarse_depth, device, precision)
    given = _read_coarse(coarse_depth, coarse_scale, coarse_relative, coarse_kind)
    photo = _read_photo(image, max_pixels)
    seconds = {"decode": time.perf_counter() - start}
    for note in photo.notes:
        say(f"{photo.name}: {note}", quiet=quiet)

    began = time.perf_counter()
    _check_fit(name, photo, given, tiling, device, precision)
    refiner = _load(name, network, device, precision)
    if network is not None and coarse is None:
        warn(
            "the embedded coarse network has seen only procedural scenes: edges are sharp, metres are rough. "
            "For better depth give a map of a strong model with --coarse-depth",
            quiet=quiet,
        )
    seconds["load"] = time.perf_counter() - began
    with progress_bar("tiles", quiet=quiet) as progress:
        result = refiner.refine(
            photo.rgb,
            coarse_depth=None if given is None else given.values,
            coarse_kind="depth" if given is None else given.metadata.kind,
            batch_size=batch_size,
            progress=progress,
            **tiling,
        )
    metadata = _metadata(refiner, result, photo, given, coarse_depth)
    began = time.perf_counter()
    report = _write(target, result, metadata, fmt, dtype, depth_scale, inverse)
    if preview is not None:
        from prv2cli.preview import write_preview

        write_preview(preview, result.depth)
    seconds |= {**result.seconds, "encode": time.perf_counter() - began, "total": time.perf_counter() - start}
    warn_of_16_bits(report, target, quiet=quiet)
    if json:
        summary = _summary(image, target, result, photo, metadata, report, seconds, preview)
        typer.echo(json_module.dumps(summary, allow_nan=False))
    elif not to_stdout:
        say(_sentence(target, result, metadata, seconds["total"]), quiet=quiet)


# --- refusals ---------------------------------------------------------------------------------------------


def _default_target(image: Path, format: str | None) -> Path:
    stem = "stdin" if str(image) == "-" else image.stem
    return Path(f"{stem}_depth.{(format or 'tif').lower().lstrip('.')}")


def _check_format(
    target: Path, format: str | None, dtype: DtypeName | None, scale: float, preview: Path | None
) -> str:
    """The output's format. A type or scale that it cannot have, or a missing extra, is found here already."""
    import numpy as np

    from prv2cli.depth_files import DepthMetadata, depth_format, write_depth
    from prv2cli.preview import preview_format

    fmt = depth_format(target, format)
    if preview is not None:
        preview_format(preview)
    one_pixel = np.ones((1, 1), np.float32)
    stored = dtype.value if dtype else "uint16"
    write_depth(io.BytesIO(), one_pixel, DepthMetadata(), fmt=fmt, dtype=stored, scale=scale)  # type: ignore[arg-type]
    return fmt


def _check_tiling(tile: str, overlap: float | None, mode: str | None, seed: int) -> dict[str, Any]:
    """How the photograph is cut, as arguments of Refiner.refine. Its own overlap where none is asked for."""
    from prv2cli.errors import UsageError
    from prv2cli.tiling import parse_mode

    parse_mode(mode)
    if mode is not None and (overlap is not None or _parse_tile(tile) != (0, 0)):
        raise UsageError("--mode has tiles of its own; leave out --tile and --overlap")
    tiling = {"tile": _parse_tile(tile), "mode": mode, "seed": seed}
    return tiling if overlap is None else {**tiling, "overlap": overlap}


def _parse_tile(text: str) -> tuple[int, int]:
    from prv2cli.errors import UsageError

    rows, _, columns = text.lower().partition("x")
    try:
        return int(rows), int(columns or rows)
    except ValueError as error:
        raise UsageError(f"--tile {text}: write rows or rows x columns, e.g. 512 or 512x768") from error


def _check_model(
    model: str, coarse: str | None, coarse_depth: Path | None, device: str, precision: str
) -> tuple[str, str | None]:
    """The names of the refiner and of the coarse network (None: a map is given instead)."""
    from prv2cli import hub
    from prv2cli.devices import check_names
    from prv2cli.errors import UsageError

    if coarse is not None and coarse_depth is not None:
        raise UsageError("--coarse and --coarse-depth exclude each other: a network, or a map of your own")
    check_names(device, precision)
    name = hub.DEFAULT_REFINER if model == "auto" else model
    network = None if coarse_depth is not None else coarse or hub.DEFAULT_COARSE
    for wanted in (name, network):
        if wanted is not None:
            hub.resolve(wanted)
    return name, network


def _check_targets(target: Path, preview: Path | None, image: Path, overwrite: bool) -> None:
    """Every place that will be written to."""
    from prv2cli.atomic import check_output
    from prv2cli.errors import OutputError, UsageError

    for flag, path in (("-o", target), ("--preview", preview)):
        if path is None or str(path) == "-":
            continue
        check_output(path)
        if path.exists() and image.exists() and path.samefile(image):
            raise UsageError(f"{flag} {path}: that is the photograph itself; choose another name")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; remove it or leave out --no-overwrite")
    if preview is not None and os.path.realpath(preview) == os.path.realpath(target):
        raise UsageError(f"--preview {preview}: that is the depth map itself; choose another name")


def _check_fit(
    name: str, photo: Photo, given: DepthMap | None, tiling: dict[str, Any], device: str, precision: str
) -> None:
    """What does not go together, now that the photograph is known: the model's header is enough to tell."""
    from prv2cli import hub
    from prv2cli.checkpoint import read_config
    from prv2cli.config import RefinerConfig
    from prv2cli.devices import choose_device, choose_precision
    from prv2cli.inference import check_aspect, plan_photograph

    choose_precision(precision, choose_device(device))
    height, width = photo.rgb.shape[:2]
    if given is not None:
        check_aspect(given.values.shape, (height, width))
    config = read_config(hub.resolve(name))
    if isinstance(config, RefinerConfig):  # anything else is refused by the refiner itself
        plan_photograph(config, height, width, **tiling)


# --- reading, loading, writing ----------------------------------------------------------------------------


def _read_photo(image: Path, max_pixels: int | None) -> Photo:
    from prv2cli.images import MAX_PIXELS_DEFAULT, read_photo

    limit = max_pixels or MAX_PIXELS_DEFAULT
    if str(image) == "-":
        return read_photo(sys.stdin.buffer, max_pixels=limit, name="<stdin>")
    return read_photo(image, max_pixels=limit)


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
    from prv2cli.depth_files import read_depth

    return read_depth(
        path,
        scale=scale,
        kind=kind.value if kind else None,
        relative=relative,
        scale_flag="--coarse-scale",
        relative_flag="--coarse-relative",
    )


def _load(name: str, network: str | None, device: str, precision: str) -> Refiner:
    from prv2cli.inference import Refiner

    return Refiner.from_pretrained(name, coarse=network, device=device, precision=precision)


def _metadata(
    refiner: Refiner, result: Depth, photo: Photo, given: DepthMap | None, coarse_file: Path | None
) -> DepthMetadata:
    from prv2cli.depth_metadata import DepthMetadata

    relative = given is not None and given.metadata.unit.endswith("relative")
    return DepthMetadata(
        model=refiner.name,
        model_id=refiner.checkpoint.sha256,
        unit="relative" if relative else "metre",
        focal_px=photo.focal_px,
        tiling=result.tiling,
        precision=result.precision,
        coarse=refiner.coarse_name if given is None else f"file {coarse_file.name if coarse_file else ''}",
        source_sha256=photo.sha256,
    )


def _write(
    target: Path,
    result: Depth,
    metadata: DepthMetadata,
    fmt: str,
    dtype: DtypeName | None,
    scale: float,
    inverse: bool,
) -> WriteReport:
    from prv2cli.depth_files import write_depth

    # A map without a unit has no natural 16-bit scale: 256 steps per unknown unit may be one step in all.
    stored = (
        dtype.value if dtype else ("float32" if fmt == "tiff" and metadata.unit == "relative" else "uint16")
    )
    options: dict[str, Any] = {"fmt": fmt, "dtype": stored, "scale": scale, "inverse": inverse}
    to_stdout = str(target) == "-"
    return write_depth(sys.stdout.buffer if to_stdout else target, result.depth, metadata, **options)


def _summary(
    image: Path,
    target: Path,
    result: Depth,
    photo: Photo,
    metadata: DepthMetadata,
    report: WriteReport,
    seconds: dict[str, float],
    preview: Path | None,
) -> dict[str, Any]:
    import numpy as np

    height, width = result.depth.shape
    return {
        "input": str(image),
        "output": str(target),
        "preview": str(preview) if preview else None,
        "width": width,
        "height": height,
        "unit": metadata.unit,
        "min": float(result.depth.min()),
        "median": float(np.median(result.depth[::4, ::4])),
        "max": float(result.depth.max()),
        "clipped": report.clipped,
        "rounded": report.rounded,
        "seam": round(result.seam, 5),
        "tiles": result.tiles,
        "tiling": result.tiling,
        "model": metadata.model,
        "model_id": metadata.model_id,
        "coarse": metadata.coarse,
        "device": result.device,
        "precision": result.precision,
        "focal_px": photo.focal_px,
        "notes": list(photo.notes),
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
    }


def _sentence(target: Path, result: Depth, metadata: DepthMetadata, seconds: float) -> str:
    height, width = result.depth.shape
    unit = "m" if metadata.unit == "metre" else "(no unit)"
    low, high = float(result.depth.min()), float(result.depth.max())
    return (
        f"{target}: {width}x{height}, {low:.2f} to {high:.2f} {unit}, {result.tiles} tile(s), {seconds:.1f} s"
    )
