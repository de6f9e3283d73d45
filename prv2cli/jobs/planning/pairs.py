"""Which depth map belongs to which photograph of a batch: the folders and names alone decide, no file is opened.

photographs ─ folder of maps, template ─> Pairs: photograph -> map, photographs without one, maps without a photograph
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from prv2cli.depth_files.given_map import MAP_SUFFIXES
from prv2cli.errors import UsageError
from prv2cli.files.parts import file_and_part
from prv2cli.files.protected import Identity, identity
from prv2cli.files.text import shown
from prv2cli.jobs.planning.find import LeftOut
from prv2cli.jobs.planning.outputs import check_template, name_of

ORPHAN = "a depth map without a photograph"
_NAMED = 3  # of several maps, in a message


@dataclass
class Pairs:
    """What belongs together, and what is left.

    Attributes:
        photographs: those that are none of the maps, each with the folder below which its place is mirrored.
        map_of: photograph -> its map. unpaired: photographs without one map of their own, and why.
        left_out: maps without a photograph.
        unseen: folders of maps that cannot be looked into. maps: all of them, for others not to write to.
    """

    photographs: list[tuple[Path, Path]] = field(default_factory=list)
    map_of: dict[Path, Path] = field(default_factory=dict)
    unpaired: list[tuple[Path, str]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unseen: list[LeftOut] = field(default_factory=list)
    maps: list[Path] = field(default_factory=list)


def pair(
    photographs: Sequence[tuple[Path, Path]],
    folder: Path,
    template: str | None = None,
    *,
    recursive: bool = False,
    leave_out: Path | None = None,
) -> Pairs:
    """Give each photograph the map at the same place below `folder` as it has below its own.

    The map has the photograph's name with another extension or, with a template of {stem}, {name} and {suffix}, what it
    makes of that: with an extension this one, without any, FILE:NAME too.

    Args:
        recursive: maps without a photograph are looked for below the folder, too. leave_out: except in this folder.

    Raises:
        UsageError: no such folder, or a template that cannot work.
    """
    if not folder.is_dir():
        raise UsageError(
            f"--coarse-depth {shown(folder)}: no such folder; a batch takes a folder of maps, or the word embedded"
        )
    template = template or "{stem}"
    check_template(template, "--coarse-name", "photograph would have the same map")
    names = _Names(folder)
    found = Pairs()
    inside = _below_their_own(photographs, folder)
    candidates = {
        photo: names.candidates(photo, base, template) for photo, base in photographs if photo not in inside
    }
    users = _users_of(candidates)
    owners: defaultdict[Path, list[Path]] = defaultdict(list)
    for photo, base in photographs:
        if photo in inside:
            continue
        if using := users.get(identity(photo)):  # a map, unless those that use it are maps, too
            if all(identity(user) in users for user in using):
                found.unpaired.append((photo, _either(photo, using[0])))
            continue
        found.photographs.append((photo, base))
        for path in candidates[photo]:
            owners[path].append(photo)
    for photo, base in found.photographs:
        why = _problem(photo, base, candidates[photo], owners, folder, template)
        if why is None:
            found.map_of[photo] = candidates[photo][0]
        else:
            found.unpaired.append((photo, why))
    _leave_orphans(found, names, set(users), recursive=recursive, leave_out=leave_out)
    found.photographs = [(photo, base) for photo, base in found.photographs if photo in found.map_of]
    return found


def _users_of(candidates: dict[Path, list[Path]]) -> dict[Identity | None, list[Path]]:
    """The photographs that a file may be the map of, by the file."""
    users: defaultdict[Identity | None, list[Path]] = defaultdict(list)
    for photo, paths in candidates.items():
        for path in paths:
            users[identity(file_and_part(path)[0])].append(photo)
    return users


def _either(photo: Path, other: Path) -> str:
    return (
        f"it and {shown(other)} could each be the depth map of the other; say which names maps have with "
        f"--coarse-name, such as '{{stem}}{other.suffix}'"
    )


def _problem(
    photo: Path, base: Path, maps: list[Path], owners: dict[Path, list[Path]], folder: Path, template: str
) -> str | None:
    """Why a photograph has no map, or None."""
    if not maps:
        wanted = _place(photo, base, folder) / (name_of(photo, template) or "")
        ending = "" if _has_ending(wanted, template) or ":" in template else ".*"
        return f"no depth map {shown(wanted)}{ending}; --coarse-name '{{stem}}_depth.png' is for other names"
    if len(maps) > 1:
        several = ", ".join(shown(path) for path in maps[:_NAMED])
        return f"several depth maps: {several}; say which with --coarse-name '{template}{maps[0].suffix}'"
    sharing = owners[maps[0]]
    if len(sharing) > 1:
        several = ", ".join(shown(path) for path in sharing[:_NAMED])
        return (
            f"the depth map {shown(maps[0])} could be of {several}; name maps by whole names and say so with "
            f"--coarse-name '{{name}}{maps[0].suffix}'"
        )
    return None


def _has_ending(path: Path, template: str) -> bool:
    """Whether a name that a template made says which kind of file it is; a stem that ends like one does not."""
    said = template.endswith(("{name}", "{suffix}")) or PurePath(template).suffix.lower() in MAP_SUFFIXES
    return said and path.suffix.lower() in MAP_SUFFIXES


def _place(photo: Path, base: Path, folder: Path) -> Path:
    """The folder in which a photograph's map is looked for."""
    return folder / photo.parent.relative_to(base)


def _below_their_own(photographs: Iterable[tuple[Path, Path]], folder: Path) -> set[Path]:
    """The photographs that lie in a folder of maps below their own: maps, whether they belong to one or not."""
    real = Path(os.path.realpath(folder))
    below = set()
    known: dict[Path, bool] = {}
    for photo, base in photographs:
        if photo.parent not in known:
            parent, top = Path(os.path.realpath(photo.parent)), Path(os.path.realpath(base))
            known[photo.parent] = parent.is_relative_to(real) and real != top and real.is_relative_to(top)
        if known[photo.parent]:
            below.add(photo)
    return below


class _Names:
    """The maps in folders, by name; each folder is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unseen: list[LeftOut] = []
        self._known: dict[Path, dict[str, list[str]]] = {}

    def candidates(self, photo: Path, base: Path, template: str) -> list[Path]:
        """The maps that can be meant for a photograph."""
        name = name_of(photo, template)
        if name is None:
            return []
        path = _place(photo, base, self.folder) / name
        whole, _ = file_and_part(path)
        own = identity(photo)
        if whole != path or _has_ending(path, template):
            by_stem = self.within(whole.parent)
            there = whole.name in by_stem.get(whole.stem, ())
            return [path] if there and identity(whole) != own else []
        within = self.within(path.parent)
        names = within.get(path.name) or [one for one in within.get(path.stem, ()) if one == path.name]
        found = [path.with_name(one) for one in names]
        return [one for one in found if identity(one) != own]

    def within(self, folder: Path) -> dict[str, list[str]]:
        """The names of the maps in a folder, by their stems."""
        if folder not in self._known:
            names: defaultdict[str, list[str]] = defaultdict(list)
            try:
                listed = sorted(os.listdir(folder))  # noqa: PTH208 - names are what is wanted
            except (FileNotFoundError, NotADirectoryError):
                listed = []
            except OSError as error:
                listed = []
                self.unseen.append(LeftOut(folder, f"cannot be looked into ({error.strerror})"))
            for name in listed:
                path = Path(name)
                if not name.startswith(".") and path.suffix.lower() in MAP_SUFFIXES:
                    names[path.stem].append(name)
            self._known[folder] = names
        return self._known[folder]

    def all(self, *, recursive: bool, leave_out: Path | None) -> list[Path]:
        """Every map: in the folders that were looked into and, `recursive`, in all the others."""
        if recursive:
            avoided = None if leave_out is None else os.path.realpath(leave_out)
            for root, folders, _ in os.walk(
                self.folder, onerror=lambda error: self.within(Path(error.filename))
            ):
                folders[:] = sorted(
                    name
                    for name in folders
                    if not name.startswith(".") and os.path.realpath(Path(root, name)) != avoided
                )
                self.within(Path(root))
        else:
            self.within(self.folder)
        return [
            folder / name
            for folder, by_stem in sorted(self._known.items())
            for names in by_stem.values()
            for name in names
        ]


def _leave_orphans(
    found: Pairs, names: _Names, used: set[Identity | None], *, recursive: bool, leave_out: Path | None
) -> None:
    photographs = {identity(photo) for photo, _ in found.photographs}
    for path in names.all(recursive=recursive, leave_out=leave_out):
        own = identity(path)
        if own is None or own in photographs:
            continue
        found.maps.append(path)
        if own not in used:
            found.left_out.append(LeftOut(path, ORPHAN))
    found.unseen += names.unseen
