"""Which files a command reads: nothing that it writes may take the place of one of them.

Files are told apart as the file system does, by device and inode: another spelling of a path, other letters where case
does not count, a link and a hard link all lead to the same one.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path

from prv2cli.errors import UsageError
from prv2cli.files.parts import file_and_part
from prv2cli.files.text import shown

STREAM = Path("-")  # stdin among inputs, stdout among outputs
_STDIN, _STDOUT = 0, 1
Identity = tuple[int, int]  # device, inode


def identity(place: Path | int) -> Identity | None:
    """What tells a regular file from all others, links followed; None of anything else, and of what is not to be seen.

    A number is that of an open file.
    """
    try:
        found = os.stat(place)  # noqa: PTH116 - of an open file, too
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def place_key(path: Path) -> str:
    """Equal for two places that are one file, whether it is there yet or not, on any system: some fold case."""
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):
        real = str(path)
    return unicodedata.normalize("NFC", real).casefold()


class Protected:
    """The files that a command reads."""

    def __init__(self) -> None:
        self._files: dict[Identity, str] = {}

    def add(self, what: str, path: Path | None, *, inside: bool = False) -> None:
        """Protect a file, or the files `inside` a folder; `what`: as messages call it. Nothing there will do."""
        if path is None:
            return
        if path == STREAM:
            self._keep(what, _STDIN)
        elif inside and os.path.isdir(path):  # noqa: PTH112 - pathlib's raises where one may not look
            for name in _names(path):
                self._keep(what, path / name)
        else:
            self._keep(what, file_and_part(path)[0])

    def at(self, path: Path) -> str | None:
        """What the file at a place is, where it is a protected one."""
        found = identity(_STDOUT if path == STREAM else path)
        return None if found is None else self._files.get(found)

    def check(self, flag: str, path: Path) -> None:
        """Raises UsageError for an output in the place of a protected file."""
        what = self.at(path)
        if what is not None:
            raise UsageError(f"{flag} {shown(path)}: that is {what}; choose another name")

    def _keep(self, what: str, place: Path | int) -> None:
        found = identity(place)
        if found is not None:
            self._files.setdefault(found, what)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
