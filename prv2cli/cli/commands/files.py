"""`prv2 info` and `prv2 convert`: depth files without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prv2cli.choices import Dtype, Kind
from prv2cli.cli.streams import binary_stdin, binary_stdout, emit
from prv2cli.cli.ui import JsonOption, warn, warn_of_16_bits

File = Annotated[Path, typer.Argument(help="A depth file: PNG, TIFF, .npy, .npz, .exr or .pfm; - for stdin.")]
Scale = Annotated[
    float | None,
    typer.Option(help="Stored numbers per metre of FILE, where it does not say so itself (1: metres)."),
]
KindOption = Annotated[Kind | None, typer.Option(help="What FILE holds, where it does not say so itself.")]


def info(
    file: File,
    json: JsonOption = False,
    scale: Scale = None,
    kind: KindOption = None,
) -> None:
    """What a depth file holds: size, unit, range, clipped pixels, the model that made it."""
    from prv2cli.depth_files.info import depth_info

    found = depth_info(_readable(file), scale=scale, kind=kind)
    if json:
        _print_json(found)
    else:
        _print_table(found)


def convert(
    file: File,
    out: Annotated[Path, typer.Argument(help="Where to write; the format by its extension. - for stdout.")],
    scale: Scale = None,
    kind: KindOption = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="FILE has no physical unit, and OUT will say so.")
    ] = False,
    depth_scale: Annotated[
        float | None,
        typer.Option(
            help="Numbers per metre of a 16-bit OUT.", show_default="as a 16-bit FILE by prv2, else 256"
        ),
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Of a TIFF.", show_default="uint16, without a unit float32"),
    ] = None,
    inverse: Annotated[
        bool | None,
        typer.Option(
            "--inverse/--no-inverse", help="Write inverse depth, or depth.", show_default="as FILE has it"
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="png, tif, npy, npz or exr, against the extension.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing OUT.")] = True,
) -> None:
    """Write a depth file in another format, type, scale or kind, without running a model."""
    from prv2cli.depth_files.convert import convert as convert_file
    from prv2cli.errors import OutputError
    from prv2cli.files.atomic import would_replace
    from prv2cli.files.protected import Protected
    from prv2cli.files.text import shown

    inputs = Protected()
    inputs.add("FILE itself", file)
    inputs.check("OUT", out)
    if not overwrite and str(out) != "-" and would_replace(out):
        raise OutputError(f"{shown(out)} exists already, and --no-overwrite keeps it")
    report = convert_file(
        _readable(file),
        _writable(out),
        scale=scale,
        kind=kind,
        relative=relative,
        out_scale=depth_scale,
        dtype=dtype,
        inverse=inverse,
        fmt=format,
        relative_flag="--relative",
    )
    for note in report.notes:
        warn(note)
    warn_of_16_bits(report, out)


def _readable(file: Path) -> Any:
    return binary_stdin() if str(file) == "-" else file


def _writable(file: Path) -> Any:
    return binary_stdout() if str(file) == "-" else file


def _print_json(found: dict[str, Any]) -> None:
    import json

    emit(json.dumps(found))


def _print_table(found: dict[str, Any]) -> None:
    """Two columns on stdout; what the file does not say is left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _lines(found).items():
        table.add_row(key, Text(value))
    Console(highlight=False).print(table)


def _lines(found: dict[str, Any]) -> dict[str, str]:
    """The facts of depth_info as people read them."""
    pixels = found["width"] * found["height"]
    known = found["unit"] != "unknown"
    unit = f" {found['unit']}" if known else ""
    lines = {
        "file": found["file"],
        "format": f"{found['format']}, {found['dtype']}",
        "size": f"{found['width']} x {found['height']}",
        "unit": found["unit"] if known else "unknown; tell the numbers per metre with --scale N",
        "kind": found["kind"],
        "scale": f"{found['scale']:g} stored numbers per unit" if known else "unknown",
        "not known"
        if found["kind"] == "confidence"
        else "no depth": f"{found['invalid']} pixels ({100 * found['invalid'] / pixels:.2f} %)",
    }
    for key in ("min", "median", "max"):
        lines[key] = "none" if found[key] is None else f"{found[key]:.6g}{unit}"
    rest = {key: value for key, value in found.items() if key not in _SHOWN and value not in (None, {})}
    notes = {"notes": "; ".join(found["notes"])} if found["notes"] else {}
    return lines | {key.replace("_", " "): str(value) for key, value in rest.items()} | notes


_SHOWN = frozenset(
    (
        *(
            "file",
            "format",
            "dtype",
            "width",
            "height",
            "unit",
            "kind",
            "scale",
            "invalid",
            "min",
            "median",
            "max",
        ),
        "notes",
    )
)
