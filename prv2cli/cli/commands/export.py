"""`prv2 export`: points, meshes, normals, layers and pictures of a depth file, without a model."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prv2cli.choices import Kind
from prv2cli.cli.options import MaxPixelsOption
from prv2cli.cli.refine_report import export_sentence
from prv2cli.cli.streams import binary_stdin, emit
from prv2cli.cli.ui import JsonOption, QuietOption, say

if TYPE_CHECKING:
    from prv2cli.export.targets import Target
    from prv2cli.export.view import View

CAMERA = "Camera"
WHAT = "What is written"
Convention = Literal["opengl", "directx"]


def export(
    depth: Annotated[
        Path, typer.Argument(metavar="DEPTH", help="A depth file of any format that prv2 reads; - for stdin.")
    ],
    photo: Annotated[
        Path | None,
        typer.Argument(
            metavar="PHOTO", help="The photograph that it belongs to: colours, textures, EXIF data."
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help=".ply (points), .glb or .obj (mesh), .exr (layers R G B, Z, N, confidence, mask). May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    normals: Annotated[
        Path | None,
        typer.Option(
            help="Also normals in the camera's space, .png (16 bits) or .exr.", rich_help_panel=WHAT
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Also a 16-bit grey .png, near is white: for lens blur, ControlNet, reliefs.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Stored numbers per metre of DEPTH, where it does not say so itself (1: metres)."),
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="What DEPTH holds, where it does not say so itself.")
    ] = None,
    focal_px: Annotated[
        float | None,
        typer.Option(
            help="Focal length in pixels of DEPTH. Default: as DEPTH says, or PHOTO.", rich_help_panel=CAMERA
        ),
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(help="Horizontal field of view in degrees instead.", rich_help_panel=CAMERA),
    ] = None,
    principal: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="Principal point in pixels of DEPTH. Default: the middle.",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    confidence: Annotated[
        Path | None,
        typer.Option(
            help="What prv2 refine --confidence wrote, for the layer of an .exr.", rich_help_panel=WHAT
        ),
    ] = None,
    max_edge: Annotated[
        float,
        typer.Option(
            help="Cut triangles whose farthest corner is more than so many times as far as the nearest.",
            rich_help_panel=WHAT,
        ),
    ] = 1.05,
    max_faces: Annotated[
        int,
        typer.Option(
            min=0,
            help="Most triangles of a mesh: above, every 2nd pixel in each direction is taken, or every 3rd; 0 = all.",
            rich_help_panel=WHAT,
        ),
    ] = 2_000_000,
    max_points: Annotated[
        int, typer.Option(min=0, help="Most points of a .ply, likewise; 0 = all.", rich_help_panel=WHAT)
    ] = 16_000_000,
    normals_as: Annotated[
        Convention, typer.Option(help="Normals with y up (opengl) or down (directx).", rich_help_panel=WHAT)
    ] = "opengl",
    normals_radius: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Normals are fitted in windows of so many pixels around each. Default: a two-thousandth of the longer "
            "side, 3 at least where DEPTH holds integers.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    percentiles: Annotated[
        str,
        typer.Option(
            metavar="LOW,HIGH",
            help="Of inverse depth, that become black and white in --picture.",
            rich_help_panel=WHAT,
        ),
    ] = "2,98",
    max_pixels: MaxPixelsOption = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing outputs.")] = True,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Points, meshes, normals, layers or a picture of a depth file: for Blender, Nuke, Photoshop and others."""
    from prv2cli.cli.places import check_exports
    from prv2cli.errors import UsageError
    from prv2cli.export.targets import check_extras
    from prv2cli.export.view import read_view
    from prv2cli.export.write import Options
    from prv2cli.export.write import export as write_exports
    from prv2cli.photo.opening import MAX_PIXELS_DEFAULT

    targets = _targets(output or [], normals, picture)
    low, high = _pair("--percentiles", percentiles)
    options = Options(max_points, max_faces, max_edge, (low, high), normals_as == "directx", normals_radius)
    options.check()
    if str(photo) == "-":
        raise UsageError("PHOTO: name a file; only DEPTH is read from stdin")
    inputs = {"DEPTH itself": depth, "PHOTO itself": photo, "the map of --confidence": confidence}
    check_exports(targets, inputs, overwrite=overwrite, textured=photo is not None)
    check_extras(targets)
    view = read_view(
        binary_stdin() if str(depth) == "-" else depth,
        photo,
        targets=targets,
        scale=scale,
        kind=kind,
        focal_px=focal_px,
        fov=fov,
        principal=None if principal is None else _pair("--principal", principal),
        confidence=confidence,
        max_pixels=max_pixels or MAX_PIXELS_DEFAULT,
    )
    for note in view.notes:
        say(note, quiet=quiet)
    written = write_exports(view, targets, options)
    if json:
        emit(json_module.dumps(_summary(depth, photo, view, written), allow_nan=False))
        return
    for one in written:
        say(export_sentence(one), quiet=quiet)


def _targets(outputs: list[Path], normals: Path | None, picture: Path | None) -> list[Target]:
    """What is to be written. Raises UsageError for nothing, and for names that do not say what."""
    from prv2cli.errors import UsageError
    from prv2cli.export.targets import file_target, named_target

    targets = [file_target(path, "-o") for path in outputs]
    if normals is not None:
        targets.append(named_target("normals", normals, "--normals"))
    if picture is not None:
        targets.append(named_target("picture", picture, "--picture"))
    if not targets:
        raise UsageError(
            "say what is to be written: -o FILE.ply, .glb, .obj or .exr, --normals FILE, --picture FILE"
        )
    return targets


def _pair(flag: str, text: str) -> tuple[float, float]:
    from prv2cli.errors import UsageError

    try:
        first, second = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(f"{flag} {text}: two numbers with a comma between them") from error
    return first, second


def _summary(depth: Path, photo: Path | None, view: View, written: list[dict[str, Any]]) -> dict[str, Any]:
    """What `--json` prints; lengths in pixels."""
    camera = view.camera
    return {
        "depth": str(depth),
        "photo": None if photo is None else str(photo),
        "width": view.shape[1],
        "height": view.shape[0],
        "unit": view.metadata.unit,
        "focal_px": None if camera is None else camera.focal.pixels,
        "focal_origin": None if camera is None else camera.focal.origin,
        "principal_px": None if camera is None else list(camera.principal),
        "outputs": written,
        "notes": list(view.notes),
    }
