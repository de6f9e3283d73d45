"""The `prv2` program: the commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from prv2cli.cli.commands import (
    batch,
    bench,
    evaluate,
    export,
    files,
    refine,
    train,
    view,
)
from prv2cli.cli.commands.models import catalogue, convert
from prv2cli.cli.streams import close_stdout_quietly, emit, flush_stdout, guard_streams
from prv2cli.cli.ui import INTERRUPTED, stderr
from prv2cli.errors import Prv2Error
from prv2cli.files.text import first_line, shown
from prv2cli.machine.memory import ran_out_of_memory
from prv2cli.version import __version__

# By its version, Typer leans on click or carries a copy of it. BadParameter is the one name that both export:
# BadParameter -> UsageError -> ClickException, the base of all that can be wrong with a call.
_WrongCall: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="prv2",
    help="Turn a photograph into a sharp, metric depth map at its full resolution.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(refine.refine)
app.command()(batch.batch)
app.command()(files.info)
app.command()(files.convert)
app.command()(export.export)
app.command()(view.view)
app.command()(train.train)
app.command(name="eval")(evaluate.evaluate)
app.command()(bench.bench)
catalogue.models.command("convert")(convert.convert)
app.add_typer(catalogue.models)


def _print_version(value: bool) -> None:
    if value:
        emit(f"prv2 {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Turn a photograph into a sharp, metric depth map at its full resolution."""


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 work failed, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # --debug is accepted anywhere on the line: people add it at the end of the command that failed.
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    guard_streams()
    # When the process ends, to look through all of torch for garbage first takes it a third of a second.
    atexit.register(gc.freeze)
    code = _run(arguments, debug)
    error = flush_stdout()
    if error is not None and code == 0:
        _tell(str(error))
        code = error.exit_code
    sys.exit(code)


def _run(arguments: list[str], debug: bool) -> int:
    try:
        with _sigterm_interrupts():
            result = app(arguments, standalone_mode=False, prog_name="prv2")
        if result == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except _WrongCall as error:
        _explain(error)
        return int(error.exit_code)
    except Prv2Error as error:
        if debug:
            raise
        _tell(str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        stderr.print("interrupted", markup=False)
        return INTERRUPTED
    except BrokenPipeError:
        close_stdout_quietly()
        return 1
    except Exception as error:
        if debug:
            raise
        _tell(_unexpected(error))
        return 1


def _tell(message: str) -> None:
    stderr.print(f"error: {message}", style="red", markup=False)


def _unexpected(error: Exception) -> str:
    """What nobody nearer has found words for: one line for what the outside world did, two for a fault of ours."""
    if ran_out_of_memory(error):
        return "not enough memory; close other programs, or use a smaller --tile"
    if isinstance(error, OSError) and error.strerror:
        return f"{shown(error.filename)}: {error.strerror}" if error.filename is not None else error.strerror
    if isinstance(error, OSError | UnicodeError):
        return shown(first_line(error))
    return (
        f"{type(error).__name__}: {error}\nThis is a bug in prv2. Run again with --debug for the traceback."
    )


def _explain(error: Any) -> None:
    """One line for a call that Typer refuses; nothing where it has shown the help instead."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    if message:
        command = error.ctx.command_path if getattr(error, "ctx", None) else "prv2"
        _tell(f"{message}; see {command} --help")


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: temporary files removed, claims given back, processes of its own ended."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears of signals
        yield
        return

    def interrupt(*_: object) -> None:
        # Ray's own handler came first and would abort the process in three seconds.
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
