"""`prv2 models convert`: others' checkpoints -> one model file of ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from prv2cli.choices import Guidance, Part
from prv2cli.cli.streams import emit
from prv2cli.cli.ui import JsonOption, QuietOption, say


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A PatchRefiner V2, MoGe-2, metric Depth Anything V2, monocular Depth Anything 3 or ZoeDepth: "
            ".pth, .pt or .safetensors.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The model file to write: NAME.safetensors.")],
    max_depth: Annotated[
        float | None,
        typer.Option(
            help="Metres: the range of its Depth Anything V2, 20 (indoor) or 80 (outdoor); or of normed ZoeDepth."
        ),
    ] = None,
    process_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="At which the networks of a PatchRefiner V2 run.",
            show_default="448x448, with ZoeDepth 384x512",
        ),
    ] = None,
    guidance: Annotated[
        Guidance, typer.Option(help="fused: the authors' ablation without the gate.")
    ] = "gated",
    part: Annotated[
        Part | None,
        typer.Option(help="Of a file that holds a student and a teacher.", show_default="student"),
    ] = None,
    refiner_only: Annotated[
        bool, typer.Option("--refiner-only", help="Leave the coarse network of a PatchRefiner V2 out.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace an existing OUT.")
    ] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Convert a checkpoint of PatchRefiner V2 or of a coarse network; no code in it is run."""
    size = _parse_size(process_size)
    _check_target(source, target, overwrite)
    from prv2cli.checkpoints.authors.convert_file import convert_file, describe

    conversion = convert_file(
        source,
        target,
        max_depth=max_depth,
        process_size=size,
        guidance=guidance,
        part=part,
        refiner_only=refiner_only,
    )
    facts = describe(conversion)
    if json_:
        emit(json.dumps({"input": str(source), "output": str(target), **facts}))
        return
    for note in conversion.notes:
        say(f"note: {note}", quiet=quiet)
    say(f"{target}: {_in_words(facts)}", quiet=quiet)


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse a target that would be lost work or no model file, before anything is read."""
    from prv2cli.errors import OutputError, UsageError
    from prv2cli.files.atomic import check_output
    from prv2cli.files.protected import Protected
    from prv2cli.files.text import shown

    if target.suffix != ".safetensors":
        raise UsageError(f"OUT {target}: a model file is written as NAME.safetensors")
    inputs = Protected()
    inputs.add("the same file as IN", source)
    inputs.check("OUT", target)
    check_output(target)
    if os.path.lexists(target) and not overwrite:
        raise OutputError(f"{shown(target)} exists already; replace it with --overwrite")


def _parse_size(text: str | None) -> tuple[int, int] | None:
    from prv2cli.errors import UsageError

    if text is None:
        return None
    rows, _, columns = text.lower().partition("x")
    try:
        return int(rows), int(columns)
    except ValueError as error:
        raise UsageError(f"--process-size {text}: write height x width in pixels, e.g. 448x448") from error


def _in_words(facts: dict[str, Any]) -> str:
    words = [f"a {facts['kind']} of {facts['parameters'] / 1e6:.1f} million parameters"]
    if "encoder" in facts:
        words.append(f"encoder {facts['encoder']}")
    if "coarse" in facts:
        bound = "" if facts["max_depth"] is None else f" up to {facts['max_depth']:g} m"
        words.append(f"coarse network {facts['coarse']}{bound}")
    if "process_size" in facts:
        words.append("at {} x {}".format(*facts["process_size"]))
    return ", ".join(words)
