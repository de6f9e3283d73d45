"""What the commands share: consoles, error printing, option types. stdout is for data, stderr for people."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from prv2cli.depth_files.ours.write import WriteReport

INTERRUPTED = 130  # exit code after Ctrl-C
SECONDS_BETWEEN_LINES = 10.0
_PIPE_WIDTH = 200  # columns of a table where no terminal says how many

# emoji=False: a file may be called a:smile:.jpg.
stderr = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel="Speed and memory")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="auto (fp16 on CUDA, bf16 on CPUs with AMX, else fp32), fp32, bf16 or fp16.",
        rich_help_panel="Speed and memory",
    ),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Say more of what is done.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout: an object, of a batch one a line.")
]


def wide_console() -> Console:
    """stdout for wide tables: a terminal's width is what it is, in a pipe lines are as long as the tables need."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, _PIPE_WIDTH))


def say(message: str, *, quiet: bool = False) -> None:
    """One line for a person, on stderr."""
    if not quiet:
        stderr.print(message, markup=False)


def warn(message: str, *, quiet: bool = False) -> None:
    """One warning line on stderr."""
    if not quiet:
        stderr.print(f"warning: {message}", style="yellow", markup=False)


class _OnStderr(logging.Handler):
    """What the library has to say, in the words of the command line."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            warn(record.getMessage())
        else:
            say(record.getMessage())


def configure_logging(*, quiet: bool, verbose: bool = False) -> None:
    """Show the library's warnings, with `verbose` its notes too, with `quiet` its errors only."""
    logger = logging.getLogger("prv2cli")
    logger.handlers = [_OnStderr()]
    logger.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    logger.propagate = False


def warn_of_16_bits(report: WriteReport, target: object, *, quiet: bool = False) -> None:
    """Say what the integers of a 16-bit file could not hold."""
    if report.clipped:
        warn(
            f"{target}: {report.clipped} pixels are too large for 16 bits and were clipped; "
            "a smaller --depth-scale or a float format keeps them",
            quiet=quiet,
        )
    if report.rounded:
        warn(
            f"{target}: {report.rounded} pixels may be off by more than 1 % from rounding to 16 bits; "
            "a larger --depth-scale or a float format keeps them",
            quiet=quiet,
        )


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr when it is a terminal, nothing otherwise. Yields update(done, total)."""
    if quiet or not stderr.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def training_progress(
    images_per_step: int, *, quiet: bool = False
) -> Iterator[Callable[[int, int, float | None], None]]:
    """Steps done, images/s and time left: a bar on a terminal, a plain line now and then elsewhere.

    Yields update(steps done, steps in all, loss or None).
    """
    if quiet:
        yield lambda done, total, loss: None
        return
    start = last = time.perf_counter()
    first = 0

    def speed_of(done: int) -> float:
        return images_per_step * (done - first) / max(1e-9, time.perf_counter() - start)

    def begin(done: int) -> None:
        """A resumed run counts from where it goes on, and without its slow first step."""
        nonlocal start, first
        if not first:
            start, first = time.perf_counter(), done

    if not stderr.is_terminal:

        def tell(done: int, total: int, loss: float | None) -> None:
            nonlocal last
            begin(done)
            now = time.perf_counter()
            if now - last < SECONDS_BETWEEN_LINES or done in (first, total):
                return
            last, speed = now, speed_of(done)
            left = (total - done) * images_per_step / max(1e-9, speed)
            lost = "skipped" if loss is None else f"loss {loss:.4g}"
            say(f"step {done} of {total}, {lost}, {speed:.2f} images/s, {left / 60:.0f} min left")

        yield tell
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}, {task.fields[speed]:.2f} images/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("training", total=None, speed=0.0, loss="-")

        def draw(done: int, total: int, loss: float | None) -> None:
            begin(done)
            shown = "skipped" if loss is None else f"{loss:.4g}"
            progress.update(task, completed=done, total=total, speed=speed_of(done), loss=shown)

        yield draw


@contextmanager
def batch_progress(total: int, *, quiet: bool = False) -> Iterator[Callable[[Counter[str]], None]]:
    """Files done, images/s and time left: a bar on a terminal, a plain line now and then elsewhere.

    Yields advance(counts of files by state).
    """
    if quiet:
        yield lambda counts: None
        return
    start = time.perf_counter()

    def rate(counts: Counter[str]) -> float:
        return (counts["done"] + counts["failed"]) / max(1e-9, time.perf_counter() - start)

    if not stderr.is_terminal:
        last = start

        def tell(counts: Counter[str]) -> None:
            nonlocal last
            ended, now = sum(counts.values()), time.perf_counter()
            if now - last < SECONDS_BETWEEN_LINES or ended == total:
                return
            last, speed = now, rate(counts)
            left = (total - ended) / speed if speed else 0
            say(
                f"{ended} of {total}, {counts['failed']} failed, {speed:.2f} images/s, {left / 60:.0f} min left"
            )

        yield tell
        return
    speed = TextColumn("{task.fields[speed]:.2f} images/s")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        speed,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("photographs", total=total, speed=0.0)
        yield lambda counts: progress.update(task, completed=sum(counts.values()), speed=rate(counts))
