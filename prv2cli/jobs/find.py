"""Which photographs a batch works on, and where the depth of each goes. Nothing is read or written here.

folder (-r), files, patterns, lists ─> photographs in a fixed order ─> outputs that mirror their folders
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from prv2cli.depth_files.encode import DEPTH_SUFFIXES
from prv2cli.errors import InputError, UsageError
from prv2cli.files.text import shown
from prv2cli.jobs.batch import Job
from prv2cli.photo.kinds import PHOTO_SUFFIXES

_FIELDS = {"stem", "name", "suffix"}


def find_photographs(inputs: Sequence[Path], *, recursive: bool, leave_out: Path) -> list[tuple[Path, Path]]:
    """The photographs of folders, files and patterns, each with the folder below which its place is mirrored.

    Folders give the files with a photograph's extension, sorted; `recursive` looks below them, without following
    links to folders. Pipes and devices are no files. `leave_out`, the output folder, is not looked into, nor are
    hidden files and folders.

    Raises:
        InputError: an input that does not exist, or a pattern that nothing matches.
    """
    found: list[tuple[Path, Path]] = []
    for given in inputs:
        for path in _expand(given):
            if path.is_dir():
                found += [(photo, path) for photo in _in_folder(path, recursive, leave_out)]
            else:
                found.append((path, path.parent))
    return list(dict.fromkeys(found))


def listed_photographs(text: bytes, *, nul: bool) -> list[tuple[Path, Path]]:
    """The paths of a list, one a line or separated by NUL; any bytes that the file system takes."""
    parts = text.split(b"\0") if nul else [line.rstrip(b"\r") for line in text.split(b"\n")]
    paths = [Path(os.fsdecode(part)) for part in parts if part]
    return [(path, _base_of(path)) for path in dict.fromkeys(paths)]


def plan(photographs: Iterable[tuple[Path, Path]], out: Path, template: str, suffix: str) -> list[Job]:
    """The output of each photograph: `out`/its folder below its base/the template, with the format's suffix.

    Two photographs that would have the same output (a.jpg and a.png) keep their extension in its name.

    Raises:
        UsageError: a template with an unknown field or one that leads out of the folder, or outputs that still clash.
    """
    check_template(template)
    pairs = list(photographs)
    targets = [_target(photo, base, out, template, suffix) for photo, base in pairs]
    clashes = {target for target, count in Counter(map(_key, targets)).items() if count > 1}
    jobs = []
    for (photo, _), target in zip(pairs, targets, strict=True):
        if _key(target) in clashes:
            target = target.with_name(
                f"{target.name.removesuffix(suffix)}_{photo.suffix.lstrip('.')}{suffix}"
            )
        jobs.append(Job(photo, target))
    again = [target for target, count in Counter(_key(job.target) for job in jobs).items() if count > 1]
    if again:
        raise UsageError(
            f"several photographs would be written to {shown(again[0])}; use --name with {{name}} in it"
        )
    return jobs


def check_template(template: str) -> None:
    """Raises UsageError for a name template that cannot work."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--name {template!r}: {error}") from error
    fields = [name for _, name, _, _ in parts if name is not None]
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise UsageError(
            f"--name {template!r}: unknown field {{{shown(unknown[0])}}}; use {{stem}}, {{name}} or {{suffix}}"
        )
    if any(spec or conversion for _, name, spec, conversion in parts if name is not None):
        raise UsageError(f"--name {template!r}: write the fields without ! and :, as in {{stem}}")
    if not {"stem", "name"} & set(fields):
        raise UsageError(f"--name {template!r}: every output would have the same name; use {{stem}} in it")
    if ".." in PurePath(template).parts or PurePath(template).is_absolute():
        raise UsageError(f"--name {template!r}: leads out of the output folder")


def shard(jobs: Sequence[Job], text: str) -> list[Job]:
    """The I-th of N parts of the jobs, I from 1: by a hash of each output's name, so that every part is stable.

    Raises UsageError for anything but I/N with 1 <= I <= N.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard {text}: write I/N with I from 1 to N, e.g. 1/4")
    wanted, parts = int(index) - 1, int(count)
    return [job for job in jobs if _number(job) % parts == wanted]


def _number(job: Job) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(job.target)).digest()[:8], "big")


def _expand(given: Path) -> list[Path]:
    if os.path.lexists(given):  # a link that leads nowhere becomes a photograph that cannot be read
        return [given]
    if glob.has_magic(str(given)):
        matches = _matches(given)
        if matches:
            return matches
        raise InputError(f"{shown(given)}: nothing matches this pattern")
    raise InputError(f"{shown(given)}: no such file or folder")


def _matches(pattern: Path) -> list[Path]:
    """As a shell would, without hidden files. Unlike glob.glob's, ** does not follow links: two can be endless."""
    first = next(i for i, part in enumerate(pattern.parts) if glob.has_magic(part))
    base, rest = Path(*pattern.parts[:first]), pattern.parts[first:]
    try:
        found = sorted(base.glob(str(Path(*rest))))
    except (OSError, ValueError) as error:  # e.g. a**b
        raise InputError(f"{shown(pattern)}: not a pattern ({shown(error)})") from error
    hidden = any(part.startswith(".") for part in rest)
    return [path for path in found if hidden or not _is_hidden(path.relative_to(base))]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _in_folder(folder: Path, recursive: bool, leave_out: Path) -> list[Path]:
    avoided = os.path.realpath(leave_out)
    photographs: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(Path(root, name)) != avoided
        )
        photographs += [
            Path(root, name)
            for name in sorted(files)
            if not name.startswith(".")
            and Path(name).suffix.lower() in PHOTO_SUFFIXES
            and not _is_special(Path(root, name))
        ]
        if not recursive:
            break
    return photographs


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


def _target(photo: Path, base: Path, out: Path, template: str, suffix: str) -> Path:
    name = template.format(stem=photo.stem, name=photo.name, suffix=photo.suffix.lstrip("."))
    folder = photo.parent.relative_to(base)
    if ".." in PurePath(name).parts or PurePath(name).is_absolute():  # {stem}/depth of "...jpg", or of "/"
        raise UsageError(f"--name {template!r}: leads out of the output folder for {shown(photo)}")
    return out / folder / f"{name}{suffix}"


def _key(path: Path) -> str:
    """Outputs that differ in the case of letters alone are one file on some systems."""
    return os.path.normcase(str(path)).casefold()


SUFFIX_OF = {fmt: suffix for suffix, fmt in reversed(DEPTH_SUFFIXES.items())}
