"""Where the depth of each photograph of a batch goes. Nothing is read or written here.

photographs ─ template, folder ─> outputs that mirror their folders ─ clashes apart, inputs kept ─> Planned
"""

from __future__ import annotations

import hashlib
import os
import string
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from prv2cli.depth_files.ours.encode import DEPTH_SUFFIXES
from prv2cli.errors import UsageError
from prv2cli.files.protected import Protected, place_key
from prv2cli.files.text import shown
from prv2cli.jobs.batch import Job

_ROUNDS = 6  # of lengthening names; there are three ways to do it
_FIELDS = {"stem", "name", "suffix"}
SUFFIX_OF = {fmt: suffix for suffix, fmt in reversed(DEPTH_SUFFIXES.items())}


@dataclass
class Planned:
    """What a batch will do; `refused`: jobs that would destroy something, and why; `notes`: for a person."""

    jobs: list[Job] = field(default_factory=list)
    refused: list[tuple[Job, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Named:
    """A photograph and the name of its output, which gets longer as long as another has the same."""

    photo: Path
    name: str  # below `folder`, without the format's suffix
    folder: Path
    base: Path
    extension: bool = False
    prefix: Path | None = None
    digest: bool = False

    def target(self, suffix: str) -> Path:
        name = self.name
        if self.extension:
            name += f"_{self.photo.suffix.lstrip('.')}"
        if self.digest:
            place = (self.prefix or Path()) / self.photo.relative_to(self.base)
            name += f"-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"
        inside = (self.prefix or Path()) / self.photo.parent.relative_to(self.base)
        return self.folder / inside / f"{name}{suffix}"


def plan(
    photographs: Iterable[tuple[Path, Path]],
    out: Path,
    template: str,
    suffix: str,
    protected: Protected | None = None,
) -> Planned:
    """The output of each photograph: `out`/its folder below its base/the template, with the format's suffix.

    Photographs that would have the same output get what tells them apart: their extensions (a.jpg, a.png), the
    folders that were given (one/a.jpg, two/a.jpg), and where nothing else does (a.jpg, A.jpg) some digits. Those that
    still have, and one that would replace a `protected` file, are refused, and the others are done.

    Raises:
        UsageError: a template with an unknown field or one that leads out of the folder.
    """
    check_template(template)
    planned, named = Planned(), []
    for photo, base in dict.fromkeys(photographs):
        name = name_of(photo, template)
        if name is None:
            why = f"--name {template!r}: leads out of the output folder for {shown(photo)}"
            planned.refused.append((Job(photo, out), why))
        else:
            named.append(_Named(photo, name, out, base))
    planned.notes += _told_apart(named, suffix)
    clashing = {id(one) for group in _clashes(named, suffix) for one in group}
    for one in named:
        job = Job(one.photo, one.target(suffix))
        what = protected.at(job.target) if protected is not None else None
        if id(one) in clashing:
            what = "that of another photograph"
        if what is None:
            planned.jobs.append(job)
        else:
            planned.refused.append((job, _refusal(job, what, template)))
    return planned


def check_template(
    template: str, flag: str = "--name", same: str = "output would have the same name"
) -> None:
    """Raises UsageError for a name template that cannot work. `same`: every what, if it has no {stem}."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"{flag} {template!r}: {error}") from error
    fields = [name for _, name, _, _ in parts if name is not None]
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise UsageError(
            f"{flag} {template!r}: unknown field {{{shown(unknown[0])}}}; use {{stem}}, {{name}} or {{suffix}}"
        )
    if any(spec or conversion for _, name, spec, conversion in parts if name is not None):
        raise UsageError(f"{flag} {template!r}: write the fields without ! and :, as in {{stem}}")
    if not {"stem", "name"} & set(fields):
        raise UsageError(f"{flag} {template!r}: every {same}; use {{stem}} in it")
    if ".." in PurePath(template).parts or PurePath(template).is_absolute():
        raise UsageError(f"{flag} {template!r}: leads out of the folder")


@dataclass(frozen=True)
class Shard:
    """The I-th of N parts of a batch, I from 1: by a hash of each name, so that every part is stable.

    Names are those below the output folder, which may be another one, or lie elsewhere, on each machine.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Raises UsageError for anything but I/N with 1 <= I <= N."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise UsageError(f"--shard {text}: write I/N with I from 1 to N, e.g. 1/4")
        return cls(int(index), int(count))

    def has(self, name: str | Path) -> bool:
        """Whether what goes by this name belongs to the part."""
        number = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")
        return number % self.count == self.index - 1

    def has_job(self, job: Job, folder: Path) -> bool:
        """Whether the output of a job below the output folder does."""
        return self.has(os.path.relpath(job.target, folder))


def name_of(photo: Path, template: str) -> str | None:
    """The name that a template makes, None where it leads out of the folder: {stem}/depth of "...jpg", or of "/"."""
    name = template.format(stem=photo.stem, name=photo.name, suffix=photo.suffix.lstrip("."))
    leads_out = ".." in PurePath(name).parts or PurePath(name).is_absolute()
    return None if leads_out else name


def _refusal(job: Job, what: str, template: str) -> str:
    other = "{stem}_depth" if template != "{stem}_depth" else "{stem}_prv2"
    return (
        f"{shown(job.source)}: its depth map would replace {what}, {shown(job.target)}; "
        f"give another folder with -o, or other names with --name '{other}'"
    )


# --- the same output twice --------------------------------------------------------------------------------


def _told_apart(named: list[_Named], suffix: str) -> list[str]:
    """Lengthen the names of those that would have the same output, until none has; what is to be said of it."""
    first: list[_Named] = []
    for _ in range(_ROUNDS):
        groups = _clashes(named, suffix)
        for group in groups:
            _tell_apart(group)
        first = first or next(iter(groups), [])
    if not first:
        return []
    one, other = (shown(each.photo) for each in first[:2])
    places = ", ".join(shown(each.target(suffix)) for each in first[:2])
    return [
        f"{one} and {other} would have the same output; they go to {places}, and others like them likewise"
    ]


def _clashes(named: list[_Named], suffix: str) -> list[list[_Named]]:
    groups: defaultdict[str, list[_Named]] = defaultdict(list)
    folders: dict[Path, str] = {}
    for one in named:
        target = one.target(suffix)
        if target.parent not in folders:
            folders[target.parent] = place_key(target.parent)
        linked = os.path.islink(target)  # noqa: PTH114
        groups[place_key(target) if linked else f"{folders[target.parent]}/{_folded(target.name)}"].append(
            one
        )
    return [group for group in groups.values() if len(group) > 1]


def _folded(name: str) -> str:
    return place_key(Path("/", name)).lstrip("/")


def _tell_apart(group: list[_Named]) -> None:
    """Give each of a group one thing more that may tell it from the others."""
    extensions = {one.photo.suffix.casefold() for one in group}
    bases = {one.base for one in group}
    if len(extensions) == len(group) and not all(one.extension for one in group):
        for one in group:
            one.extension = True
    elif len(bases) > 1 and any(one.prefix is None for one in group):
        for one, prefix in zip(group, _own_parts([one.base for one in group]), strict=True):
            one.prefix = prefix
    elif len(extensions) > 1 and not all(one.extension for one in group):
        for one in group:
            one.extension = True
    else:
        for one in group:
            one.digest = True


def _own_parts(bases: list[Path]) -> list[Path]:
    """What of each folder's path is below the folder that all have in common."""
    real = [os.path.realpath(base) for base in bases]
    try:
        common = os.path.commonpath(real)
    except ValueError:  # on several drives
        return [Path(*Path(path).parts[1:]) for path in real]
    return [Path(os.path.relpath(path, common)) for path in real]
