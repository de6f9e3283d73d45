"""What `prv2 batch` tells: a line of JSON a file on stdout, errors and a summary on stderr."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from prv2cli.cli.ui import batch_progress, say, stderr, warn
from prv2cli.errors import DiskFullError, OutputError
from prv2cli.files.text import shown

if TYPE_CHECKING:
    from prv2cli.jobs.batch import Job, Outcome
    from prv2cli.jobs.planning.find import LeftOut

    Outcomes = Generator[Outcome, None, None]

_NAMED = 3  # of many that are left out for one reason


class Teller:
    """How a batch went, as it goes."""

    def __init__(self, total: int, folder: Path, *, as_json: bool, quiet: bool) -> None:
        self._total, self._folder, self._quiet = total, folder, quiet
        self._data: TextIO | None = sys.stdout if as_json else None
        self._broken: OutputError | None = None  # what is wrong with stdout
        self._counts: Counter[str] = Counter()
        self._remarks: Counter[str] = Counter()  # done depth maps by what a person should know of them
        self._first_note = ""

    def left_out(self, found: Sequence[LeftOut]) -> None:
        """Files and folders that are not worked on: each in JSON, some of each kind in words."""
        from prv2cli.jobs.batch import left_out

        kinds: dict[str, list[Path]] = {}
        for path, why in found:
            kinds.setdefault(why, []).append(path)
            self._print(left_out(path, why))
        for why, paths in kinds.items():
            names = ", ".join(map(shown, paths[:_NAMED]))
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            say(f"left out: {names}{more} ({why})", quiet=self._quiet)
        self._counts["left out"] = len(found)

    def failed(self, found: Sequence[tuple[Path | Job, str]]) -> None:
        """Folders that cannot be seen, and photographs whose output would destroy something."""
        from prv2cli.jobs.batch import failed, unseen

        for what, why in found:
            self._counts["failed"] += 1
            outcome = unseen(what, why) if isinstance(what, Path) else failed(what, why)
            self._tell(outcome.report)
        self._total += len(found)

    def run(self, start: Callable[[], Outcomes] | None) -> int:
        """Do the work, if there is any, and tell; the exit code."""
        started = time.perf_counter()
        full = None if start is None else self._work(start)
        counts, left = self._counts, self._total - self._ended()
        if full:
            self._error(f"{full}; {left} left: run the same command again to go on")
        self._tell_remarks()
        if self._broken is not None:
            self._error(f"{self._broken}; the report is not whole, the depth maps are")
        parts = [
            f"{counts['done']} done",
            f"{counts['skipped']} already done",
            f"{counts['failed']} failed",
            *([f"{counts['left out']} left out"] if counts["left out"] else []),
            *([f"{left} not tried"] if left else []),
        ]
        seconds = time.perf_counter() - started
        say(
            f"{self._folder}: {', '.join(parts)} in {seconds:.1f} s",
            quiet=self._quiet and not counts["failed"],
        )
        return 1 if counts["failed"] or full or self._broken else 0

    def _ended(self) -> int:
        return sum(self._counts[state] for state in ("done", "skipped", "failed"))

    def _work(self, start: Callable[[], Outcomes]) -> str | None:
        """Returns what to say of a full disk, which ends the work."""
        with _nobody_prints():
            outcomes = start()
            with batch_progress(self._total, quiet=self._quiet) as advance:
                try:
                    for outcome in outcomes:
                        self._counts[outcome.state] += 1
                        self._tell(outcome.report)
                        advance(
                            Counter({state: self._counts[state] for state in ("done", "skipped", "failed")})
                        )
                except DiskFullError as error:
                    return str(error)
                finally:
                    outcomes.close()
        return None

    def _tell(self, report: dict[str, Any]) -> None:
        self._print(report)
        if report.get("error"):
            self._error(report["error"])
        if report["state"] == "done":
            self._remark(report)

    def _remark(self, report: dict[str, Any]) -> None:
        """Take down what `prv2 refine` would say of a depth map."""
        relative = str(report["unit"]).endswith("relative")
        found = {**report, "relative": relative}
        self._remarks.update(kind for kind in ("clipped", "rounded", "relative", "notes") if found.get(kind))
        if report.get("notes") and not self._first_note:
            self._first_note = f"{shown(report['input'])}: {report['notes'][0]}"

    def _tell_remarks(self) -> None:
        """Once for all depth maps of a kind; --json has it of each."""
        found, fix = self._remarks, "-scale or a float format keeps them"
        for kind, why in (
            ("clipped", f"pixels that are too large for 16 bits and were clipped; a smaller --depth{fix}"),
            ("rounded", f"pixels that may be off by more than 1 % from rounding; a larger --depth{fix}"),
        ):
            if found[kind]:
                warn(f"{_depth_maps(found[kind])} with {why}", quiet=self._quiet)
        if found["relative"]:
            say(f"{_depth_maps(found['relative'])} without metres, relative", quiet=self._quiet)
        if found["notes"]:
            more = f" (notes of {found['notes'] - 1} more: --json)" if found["notes"] > 1 else ""
            say(f"{self._first_note}{more}", quiet=self._quiet)

    def _print(self, report: dict[str, Any]) -> None:
        """A line of JSON. A full disk under the report is no reason to stop: it is said at the end."""
        if self._data is None:
            return
        try:
            self._data.write(json.dumps(report, allow_nan=False) + "\n")
            self._data.flush()
        except OutputError as error:
            self._data, self._broken = None, error

    def _error(self, message: str) -> None:
        stderr.print(f"error: {message}", style="red", markup=False)


def _depth_maps(count: int) -> str:
    return f"{count} depth map{'' if count == 1 else 's'}"


class _ToLog(io.TextIOBase):
    """What others print, as notes of the program."""

    def write(self, text: str) -> int:
        if text.strip():
            logging.getLogger("prv2cli").info("%s", text.strip())
        return len(text)


@contextmanager
def _nobody_prints() -> Iterator[None]:
    """stdout is kept from those who print: Ray's threads do when a worker dies, and offer no other way."""
    with redirect_stdout(_ToLog()):
        yield
