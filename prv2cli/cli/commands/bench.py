"""`prv2 bench`: seconds and peak memory on this machine, beside what PatchRefiner would take."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from prv2cli.choices import BenchNetwork
from prv2cli.cli.streams import emit
from prv2cli.cli.ui import (
    JsonOption,
    QuietOption,
    VerboseOption,
    configure_logging,
    progress_bar,
    wide_console,
)

# The parts of a run and their columns.
PARTS = {
    "coarse": "coarse s",
    "guide": "guide s",
    "reduced": "half size s",
    "tiles": "tiles s",
    "fuse": "fuse s",
}
ENDS = ("all s", "x prv2", "processor s", "x prv2", "peak GB")

if TYPE_CHECKING:
    from prv2cli.bench.report import BenchReport


def bench(
    photo: Annotated[
        Path | None, typer.Argument(metavar="[PHOTO]", help="Default: a made picture of 3840 x 2160.")
    ] = None,
    coarse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="lite|dav2-s|moge2-s",
            help="Behind which coarse network; again for each. All but lite with random weights of the real shapes.",
            show_default="all",
        ),
    ] = None,
    tiles: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tiles of each scheme but prv2 that are run; the others are reckoned from these.",
            show_default="2 on a CPU, all on a GPU",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Seconds and peak memory of prv2 by part on this machine, beside plain up-sampling and PatchRefiner's schemes.

    Nothing is downloaded. On two processor cores it takes about five minutes; `--coarse lite` alone one.
    """
    configure_logging(quiet=quiet, verbose=verbose)
    from prv2cli.machine.devices import check_names

    check_names(device, precision)
    networks = _known(coarse or list(get_args(BenchNetwork)))
    from prv2cli.bench.run import bench as run

    with progress_bar("coarse networks", quiet=quiet) as progress:
        report = run(photo, networks, device=device, precision=precision, tiles=tiles, progress=progress)
    if json:
        emit(json_module.dumps(report.to_json(), allow_nan=False))
    else:
        _print(report)


def _known(names: list[str]) -> list[BenchNetwork]:
    """Raises UsageError for a network that a bench does not know."""
    from prv2cli.errors import UsageError

    known: dict[str, BenchNetwork] = {name: name for name in get_args(BenchNetwork)}
    for name in names:
        if name not in known:
            raise UsageError(f"--coarse {name}: prv2 bench knows {', '.join(known)}")
    return [known[name] for name in names]


def _print(report: BenchReport) -> None:
    from rich.table import Table
    from rich.text import Text

    from prv2cli.files.text import shown

    console, about = wide_console(), report.about
    console.print(Text(f"{shown(about['photograph'])}: {about['width']} x {about['height']}"))
    console.print(
        Text(f"{about['device_name']} ({about['device']}, {about['threads']} threads), {about['precision']}")
    )
    around = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in report.around.items())
    console.print(Text(f"beside these: {around}"))
    for one in report.networks:
        table = Table(box=None, pad_edge=False)
        for title in (f"behind {one.network}", "tiles", "run", *PARTS.values(), *ENDS):
            table.add_column(title, justify="right", no_wrap=True)
        table.columns[0].justify = "left"
        for row in one.rows:
            parts = [f"{row.parts[part]:.2f}" if part in row.parts else "-" for part in PARTS]
            peak = (row.device_peak or row.process_peak) / 1e9
            ends = (row.seconds, one.ratio(row), row.processor, one.processor_ratio(row), peak)
            counts = (str(row.tiles), str(row.measured))
            table.add_row(
                Text(_name(row.scheme, row.tiling)), *counts, *parts, *(f"{number:.2f}" for number in ends)
            )
        console.print()
        console.print(table)


def _name(scheme: str, tiling: str) -> str:
    """The scheme and, in a word, its tiling: m1, m2 or grid."""
    return (
        scheme if tiling == "-" else f"{scheme}, {tiling.removeprefix('paper ').split(':')[0].split(' ')[0]}"
    )
