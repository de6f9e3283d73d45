"""The `prv2` program: the commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import click
import typer

from prv2cli import __version__
from prv2cli.cli import files, refine, train
from prv2cli.cli.ui import close_stdout_quietly, stderr
from prv2cli.errors import Prv2Error

app = typer.Typer(
    name="prv2",
    help="Turn a photograph into a sharp, metric depth map at its full resolution.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(refine.refine)
app.command()(files.info)
app.command()(files.convert)
app.command()(train.train)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"prv2 {__version__}")
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
    sys.exit(_run(arguments, debug))


def _run(arguments: list[str], debug: bool) -> int:
    try:
        result = app(arguments, standalone_mode=False, prog_name="prv2")
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Prv2Error as error:
        if debug:
            raise
        stderr.print(f"error: {error}", style="red", markup=False)
        return error.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        stderr.print("interrupted", markup=False)
        return 130
    except BrokenPipeError:
        close_stdout_quietly()
        return 1
    except Exception as error:
        if debug:
            raise
        stderr.print(
            f"error: {type(error).__name__}: {error}\nThis is a bug in prv2. Run again with --debug for the traceback.",
            style="red",
            markup=False,
        )
        return 1
