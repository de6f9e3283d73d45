"""Which photographs a batch works on, and where the depth of each goes. Nothing is read or written here.

folder (-r), files, patterns, lists ─> photographs in a fixed order ─> outputs that mirror their folders
"""

from __future__ import annotations

import glob
import hashlib
import os
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from prv2cli.batch import Job
from prv2cli.depth_files import DEPTH_SUFFIXES
from prv2cli.errors import InputError, UsageError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif"})
DEFAULT_TEMPLATE = "{stem}"
_FIELDS = {"stem", "name", "suffix"}


def find_photographs(inputs: Sequence[Path], *, recursive: bool, leave_out: Path) -> list[tuple[Path, Path]]:
    """The photographs of folders, files and patterns, each with the folder below which its place is mirrored.

    Folders give the files with a photograph's extension, sorted; `recursive` looks below them, without following
    links to folders. `leave_out`, the output folder, is not looked into, nor are hidden files and folders.

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
            f"several photographs would be written to {again[0]}; use --name with {{name}} in it"
        )
    return jobs


def check_template(template: str) -> None:
    """Raises UsageError for a name template that cannot work."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UsageError(f"--name {template!r}: {error}") from error
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise UsageError(
            f"--name {template!r}: unknown field {{{unknown[0]}}}; use {{stem}}, {{name}} or {{suffix}}"
        )
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
    if given.exists() or given.is_symlink():
        return [given]
    if glob.has_magic(str(given)):
        matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 - an absolute pattern
        if matches:
            return [Path(match) for match in matches]
        raise InputError(f"{given}: nothing matches this pattern")
    raise InputError(f"{given}: no such file or folder")


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
            if not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES
        ]
        if not recursive:
            break
    return photographs


def _base_of(path: Path) -> Path:
    """Of a listed path: itself where it is relative and stays below the current folder, else its own folder."""
    if path.is_absolute() or ".." in path.parts:
        return path.parent
    return Path()


def _target(photo: Path, base: Path, out: Path, template: str, suffix: str) -> Path:
    name = template.format(stem=photo.stem, name=photo.name, suffix=photo.suffix.lstrip("."))
    return out / photo.parent.relative_to(base) / f"{name}{suffix}"


def _key(path: Path) -> str:
    """Outputs that differ in the case of letters alone are one file on some systems."""
    return os.path.normcase(str(path)).casefold()


SUFFIX_OF = {fmt: suffix for suffix, fmt in reversed(DEPTH_SUFFIXES.items())}
