"""`prv2 models`: what there is, what is on this machine, and whether it is still what it should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prv2cli.cli.streams import emit
from prv2cli.cli.ui import JsonOption, QuietOption, VerboseOption, configure_logging, say, warn

if TYPE_CHECKING:
    from prv2cli.hub.resolve import Verification

PIPE_WIDTH = 160  # columns of a table that is not read on a terminal

models = typer.Typer(name="models", help="List, download and check models.", no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A registered name, or a Hub repository org/name.")
]
RevisionOption = Annotated[
    str | None, typer.Option("--revision", help="A commit, branch or tag of the model's repository.")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Use the cache only.")]


@models.command("list")
def list_models(json_: JsonOption = False) -> None:
    """List the models known by name, and the repositories that were downloaded."""
    from prv2cli.hub.cache import CacheUnreadableError
    from prv2cli.hub.resolve import other_cached, registry

    try:
        rows = [_describe(name) for name in [*registry(), *other_cached()]]
    except CacheUnreadableError as error:
        warn(str(error))
        rows = [_describe(name, readable=False) for name in registry()]
    if json_:
        emit(json.dumps(rows))
    else:
        _print_table(rows)


@models.command()
def show(name: NameArgument, json_: JsonOption = False) -> None:
    """Show all that is known of one model."""
    about = _describe(name)
    if json_:
        emit(json.dumps(about))
        return
    for key, value in about.items():
        emit(f"{key.replace('_', ' '):<12} {_in_words(key, value)}")


@models.command()
def pull(
    name: NameArgument,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Download a model into the cache, and print where it lies. An interrupted download is gone on with."""
    from prv2cli.hub.resolve import resolve

    configure_logging(quiet=quiet, verbose=verbose)
    model = resolve(name, revision=revision, offline=offline)
    if json_:
        emit(json.dumps({"name": model.name, "path": str(model.path), "revision": model.revision}))
    else:
        emit(str(model.path))


@models.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Without it: all that are embedded or cached.")
    ] = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Hash models on this machine anew and compare; exit code 1 where a file is not what it should be."""
    from prv2cli.hub.resolve import verify

    results = verify(name)
    if json_:
        emit(json.dumps([_result(result) for result in results]))
    else:
        for result in results:
            _print_result(result)
    wrong = sum(not result.ok for result in results)
    say(f"{len(results)} files, {wrong} wrong", quiet=quiet)
    return int(wrong > 0)


def _describe(name: str, *, readable: bool = True) -> dict[str, Any]:
    """What is known of a model: the registry's words and what the cache, if it is `readable`, holds. Sizes in bytes."""
    from prv2cli.hub.resolve import cached, entry_of

    entry = entry_of(name)
    here = cached(name) if readable or (entry is not None and entry.embedded) else None
    entry = here.entry if here is not None else entry
    about: dict[str, Any] = {"name": name}
    if entry is not None:
        about = entry.model_dump()
    elif here is not None:
        about |= {"repo": name.removeprefix("hf:"), "size": _size(here.path)}
    about["state"] = (
        "embedded" if entry is not None and entry.embedded else "cached" if here else "not cached"
    )
    about["path"] = None if here is None else str(here.path)
    about["cached_revision"] = None if here is None else here.revision
    if here is not None and about.get("size") is None:
        about["size"] = _size(here.path)
    return about


def _size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.iterdir()))


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    fixed = ("name", "kind", "state", "size", "licence")
    for title in fixed:
        table.add_column(title, no_wrap=True, justify="right" if title == "size" else "left")
    table.add_column("trained on")
    for row in rows:
        table.add_row(*(Text(_in_words(key, row.get(key))) for key in (*fixed, "domain")))
    console.print(table)


def _in_words(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key == "size":
        return f"{value / 1e6:.1f} MB"
    if key == "max_depth":
        return f"{value:g} m"
    if key == "input_size":
        return f"{value} px"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _result(result: Verification) -> dict[str, Any]:
    return {
        "name": result.name,
        "path": str(result.path),
        "sha256": result.sha256,
        "expected": result.expected,
        "source": result.source,
        "ok": result.ok,
    }


def _print_result(result: Verification) -> None:
    if not result.ok:
        emit(f"WRONG    {result.name}: {result.path} has sha256 {result.sha256}, not {result.expected}")
    elif result.expected is None:
        emit(f"unknown  {result.name}: nothing to compare {result.path} with")
    else:
        emit(f"ok       {result.name}: {result.path.name}, as in the {result.source}")
