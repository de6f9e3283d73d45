"""Read a depth map to look at: a depth file, an 8-bit picture of one, a map without any unit.

What 0 is depends on the map: no depth in one with a unit, in one without just the farthest (inverse) or the nearest.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from prv2cli.choices import Kind
from prv2cli.depth_files.decode import Stored
from prv2cli.depth_files.given_map import kind_wanted, opened_once, picture_in
from prv2cli.depth_files.read import DepthMap, decode_source, depth_of, without_unit
from prv2cli.files.text import shown


def read_map(
    source: Path | BinaryIO, *, scale: float | None = None, kind: Kind | None = None, relative: bool = False
) -> tuple[str, DepthMap]:
    """The name for messages and the map; the arguments are those of a file that does not say it itself.

    `values` may be 0 and below where there is no unit. Raises UsageError where unit or kind is not known, InputError.
    """
    name, stored = _decoded(source, kind)
    if stored.metadata is not None:
        scale, kind, relative = None, None, False
    elif relative:
        return name, without_unit(name, stored, kind)
    depth = depth_of(
        name,
        stored,
        scale=scale,
        kind=kind,
        relative=relative,
        scale_flag="--scale",
        relative_flag="--relative",
    )
    return name, depth


def _decoded(source: Path | BinaryIO, kind: Kind | None) -> tuple[str, Stored]:
    name = shown(source if isinstance(source, Path) else getattr(source, "name", "<stdin>"))
    file = opened_once(source) if isinstance(source, Path) else io.BytesIO(source.read())
    picture = picture_in(Path(name), file)
    if picture is None:
        return (name, decode_source(file)[1]) if isinstance(file, Path) else decode_source(_named(file, name))
    if kind is None:
        raise kind_wanted(name, "--kind")
    note = "an 8-bit picture, 256 steps at most"
    return name, Stored(picture.levels, None, "picture", picture.holes, (note,))


def _named(file: BinaryIO, name: str) -> BinaryIO:
    setattr(file, "name", name)  # noqa: B010 - BytesIO has none, and messages want one
    return file
