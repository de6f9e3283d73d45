"""Which photographs a batch works on, and what it leaves out. Headers are looked at, nothing is written here.

folder (-r), files, patterns, lists ─> Found: photographs in a fixed order, what is left out and why, what is unseen
"""

from __future__ import annotations

import codecs
import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from prv2cli.depth_files.ours.recognise import is_by_prv2
from prv2cli.errors import InputError
from prv2cli.files.text import shown
from prv2cli.photo.kinds import HEAD_BYTES, PHOTO_SUFFIXES, overlooked

OURS = "made by prv2: a depth map or a picture of one, no photograph"
LINK = "link to a folder, which is not followed; name the folder itself to have it done"
SPECIAL = "pipe, socket or device"
# By their first bytes. utf-16 before utf-32 would take the latter's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class LeftOut(NamedTuple):
    """What is not done, and why."""

    path: Path
    why: str


@dataclass
class Found:
    """Photographs, each with the folder below which its place is mirrored; the rest of what was met."""

    photographs: list[tuple[Path, Path]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unseen: list[LeftOut] = field(default_factory=list)  # what could not be looked into

    def add(self, photograph: Path, base: Path) -> None:
        """A photograph, unless it is an output of prv2's."""
        if is_by_prv2(photograph):
            self.left_out.append(LeftOut(photograph, OURS))
        else:
            self.photographs.append((photograph, base))

    def note_unseen(self, error: OSError) -> None:
        """A folder that cannot be looked into; one that is not there any more, or is none, is nothing to tell."""
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.unseen.append(LeftOut(Path(error.filename), f"cannot be looked into ({error.strerror})"))

    def once(self) -> Found:
        """The same without what is there twice, by whatever path."""
        folders: dict[Path, str] = {}
        first: dict[str, tuple[Path, Path]] = {}
        for photograph, base in self.photographs:
            folder = photograph.parent
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            first.setdefault(f"{folders[folder]}/{photograph.name}", (photograph, base))
        return Found(
            list(first.values()), list(dict.fromkeys(self.left_out)), list(dict.fromkeys(self.unseen))
        )


def find_photographs(inputs: Sequence[Path], *, recursive: bool, leave_out: Path) -> Found:
    """The photographs of folders, files and patterns.

    Folders give the files with a photograph's extension, sorted; `recursive` looks below them, without following
    links to folders. Pipes and devices are taken where they are named themselves. `leave_out`, the output folder, is
    not looked into, nor are hidden files and folders; all else that people would miss is told.

    Raises:
        InputError: an input that does not exist, or a pattern that nothing matches.
    """
    found = Found()
    for given in inputs:
        for path in _expand(given, found):
            if os.path.isdir(path):  # noqa: PTH112 - pathlib's raises where one may not look
                _look_into(path, recursive, leave_out, found)
            else:
                found.add(path, path.parent)
    return found.once()


def listed_photographs(text: bytes, *, nul: bool) -> Found:
    """The paths of a list, one a line or separated by NUL; any bytes that the file system takes, or text with a mark.

    Raises InputError for a text that is not what its mark says, and for NUL in the middle of lines.
    """
    text = _unmarked(text)
    if not nul and b"\0" in text:
        raise InputError("the list on stdin is separated by NUL, not by lines; give --null as well")
    parts = text.split(b"\0") if nul else [line.rstrip(b"\r") for line in text.split(b"\n")]
    found = Found()
    for part in parts:
        if part:
            path = Path(os.fsdecode(part))
            found.add(path, _base_of(path))
    return found.once()


def _unmarked(text: bytes) -> bytes:
    """The list in the encoding of file names: some programs begin it with a mark, or write it in 16 bits."""
    encoding = next((name for mark, name in _MARKS if text.startswith(mark)), None)
    if encoding is None:
        return text
    if encoding == "utf-8-sig":  # the rest may be any bytes
        return text.removeprefix(codecs.BOM_UTF8)
    try:
        return os.fsencode(text.decode(encoding))
    except UnicodeError as error:
        raise InputError(f"the list on stdin begins as {encoding} and goes on as something else") from error


def _expand(given: Path, found: Found) -> list[Path]:
    if "\0" in str(given):
        raise InputError(f"{shown(given)}: no file has a NUL in its name")
    try:
        given.lstat()
        return [given]  # a link that leads nowhere becomes a photograph that cannot be read
    except PermissionError as error:
        raise InputError(f"{shown(given)}: no permission to look there") from error
    except (OSError, ValueError):
        pass
    if glob.has_magic(str(given)):
        return _matches(given, found)
    raise InputError(f"{shown(given)}: no such file or folder")


def _matches(pattern: Path, found: Found) -> list[Path]:
    """As a shell would, without hidden files. Unlike glob.glob's, ** does not follow links: two can be endless.

    What is there by the name that it has, brackets and all, is no pattern.
    """
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    literal = first
    while literal < len(parts) - 1 and os.path.lexists(Path(*parts[: literal + 1])):
        literal += 1
    seen = len(found.unseen)
    for start in dict.fromkeys((literal, first)):
        base, rest = Path(*parts[:start]), parts[start:]
        try:
            matches = sorted(base.glob(str(Path(*rest))))
        except (OSError, ValueError) as error:  # e.g. a**b
            raise InputError(f"{shown(pattern)}: not a pattern ({shown(error)})") from error
        hidden = any(part.startswith(".") for part in rest)
        visible = [path for path in matches if hidden or not _is_hidden(path.relative_to(base))]
        _note_unseen(base, None if "**" in rest else len(rest) - 1, found)
        if visible or len(found.unseen) > seen:
            return visible
    raise InputError(f"{shown(pattern)}: no such file, and nothing matches it as a pattern")


def _note_unseen(base: Path, depth: int | None, found: Found) -> None:
    """The folders of a pattern that could not be looked into: glob passes them over. `depth`: None = all below."""
    top = len(base.parts)
    for root, folders, _ in os.walk(base, onerror=found.note_unseen):
        if depth is not None and len(Path(root).parts) - top >= depth:
            folders[:] = []
        folders[:] = [name for name in folders if not name.startswith(".")]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _look_into(folder: Path, recursive: bool, leave_out: Path, found: Found) -> None:
    avoided = _folder_identity(leave_out)
    for root, folders, files in os.walk(folder, onerror=found.note_unseen):
        for name in sorted(folders):
            if recursive and not name.startswith(".") and os.path.islink(Path(root, name)):  # noqa: PTH114
                found.left_out.append(LeftOut(Path(root, name), LINK))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (avoided is None or _folder_identity(Path(root, name)) != avoided)
        )
        for name in sorted(files):
            if not name.startswith("."):
                _take(Path(root, name), folder, found)
        if not recursive:
            break


def _take(path: Path, base: Path, found: Found) -> None:
    """What one file of a folder is to a batch."""
    named = path.suffix.lower() in PHOTO_SUFFIXES
    if _is_special(path):
        if named:
            found.left_out.append(LeftOut(path, SPECIAL))
    elif named:
        found.add(path, base)
    elif (why := overlooked(_head(path), path.name)) is not None:
        found.left_out.append(LeftOut(path, why))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def _folder_identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _is_special(path: Path) -> bool:
    """A pipe, a socket or a device: opening one could wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _base_of(path: Path) -> Path:
    """Of a listed path: itself where it is relative and stays below the current folder, else its own folder."""
    if path.is_absolute() or ".." in path.parts:
        return path.parent
    return Path()
