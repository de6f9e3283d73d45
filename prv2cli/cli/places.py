"""What `prv2 refine` reads and where it writes: no output takes the place of anything of the user's."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prv2cli.depth_files.ours.recognise import may_be_replaced
from prv2cli.errors import OutputError, UsageError
from prv2cli.files.atomic import check_output, would_replace
from prv2cli.files.protected import Protected, identity, place_key
from prv2cli.files.text import shown

if TYPE_CHECKING:
    from prv2cli.export.targets import Target

_MODELS = ("the model", "the coarse network")  # a folder will do
_QUOTED = 3  # of several photographs, in a message


def the_one(images: list[Path]) -> Path:
    """The photograph. Raises UsageError for several, with the call that does them."""
    if len(images) == 1:
        return images[0]
    several = " ".join(shlex.quote(shown(path)) for path in images[:_QUOTED])
    more = " ..." if len(images) > _QUOTED else ""
    raise UsageError(
        f"IMAGE: one photograph, not {len(images)}; several are done by: prv2 batch {several}{more} -o DEPTH_FOLDER "
        "(and one's output is named with -o)"
    )


def model_places(model: str, coarse: str) -> dict[str, Path | None]:
    """The files or folders of the two models, as messages call them; None of one that is known by its name."""
    from prv2cli.hub.resolve import path_of

    return {
        what: None if name == "auto" else path_of(name)
        for what, name in zip(_MODELS, (model, coarse), strict=True)
    }


def check_default(target: Path) -> None:
    """A name that nobody asked for replaces prv2's own files alone. Raises OutputError."""
    if identity(target) is not None and not may_be_replaced(target):
        raise OutputError(
            f"{shown(target)} is there and was not written by prv2; keep it with another name: -o NAME, or replace it "
            "with --overwrite"
        )


def check_targets(
    targets: dict[str, Path | None], inputs: dict[str, Path | None], overwrite: bool | None
) -> None:
    """Every place that will be written to, by its flag; "-o" is the first; `inputs`: what is read, as messages call it.

    Raises UsageError, OutputError: before any work, what would replace an input or cannot be written.
    """
    protected = Protected()
    for what, path in inputs.items():
        protected.add(what, path, inside=what in _MODELS)
    places: dict[str, str] = {}  # the true path -> its flag
    for flag, path in targets.items():
        if path is None:
            continue
        protected.check(flag, path)
        if str(path) == "-":
            continue
        check_output(path)
        if overwrite is False and would_replace(path):
            raise OutputError(f"{shown(path)} exists; remove it or leave out --no-overwrite")
        what = places.setdefault(place_key(path), flag)
        if what != flag:
            taken = "the depth map itself" if what == "-o" else f"the file of {what}"
            raise UsageError(f"{flag} {shown(path)}: that is {taken}; choose another name")


def check_exports(
    targets: Iterable[Target],
    inputs: dict[str, Path | None],
    *,
    overwrite: bool,
    textured: bool,
    others: Iterable[Path | None] = (),
) -> None:
    """Every place that exports will be written to, as check_targets; `others`: what else the command writes.

    textured: whether there is a photograph to lie on an .obj, which then comes with two more files.
    Raises UsageError, OutputError: before any work, also for the files that come with an .obj.
    """
    from prv2cli.export.targets import check_companions

    protected = Protected()
    for what, path in inputs.items():
        protected.add(what, path, inside=what in _MODELS)
    taken = {place_key(path) for path in others if path is not None}
    for target in targets:
        for path in target.places if textured else (target.path,):
            protected.check(target.flag, path)
            check_output(path)
            if not overwrite and would_replace(path):
                raise OutputError(f"{shown(path)} exists; remove it or leave out --no-overwrite")
            if place_key(path) in taken:
                raise UsageError(
                    f"{target.flag} {shown(path)}: another output goes there; choose another name"
                )
            taken.add(place_key(path))
        if textured:
            check_companions([target])
