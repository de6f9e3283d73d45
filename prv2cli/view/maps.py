"""Read a depth map to look at: a depth file, an 8-bit picture of one, a map without any unit.

What 0 is depends on the map: no depth in one with a unit, in one without just the farthest (inverse) or the nearest.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np

from prv2cli.choices import Kind
from prv2cli.depth_files.decode import Stored
from prv2cli.depth_files.given_map import kind_wanted, opened_once, picture_in
from prv2cli.depth_files.holes import find_holes
from prv2cli.depth_files.read import DepthMap, decode_source, depth_of, interpret, refuse_confidence
from prv2cli.errors import InputError
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
        return name, _without_unit(name, stored, kind)
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
    return name, Stored(picture.levels, None, "picture", notes=("an 8-bit picture, 256 steps at most",))


def _named(file: BinaryIO, name: str) -> BinaryIO:
    setattr(file, "name", name)  # noqa: B010 - BytesIO has none, and messages want one
    return file


def _without_unit(name: str, stored: Stored, kind: Kind | None) -> DepthMap:
    refuse_confidence(name, stored)
    metadata = interpret(name, stored, None, kind, True, "--scale")
    assert metadata is not None
    holes, found = find_holes(stored, metadata)
    values = stored.numbers.astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    if holes is not None:
        values[holes] = np.nan
    if np.isnan(values).all():
        raise InputError(f"{name}: no pixel holds a number")
    return DepthMap(values, metadata, tuple(f"{name}: {note}" for note in (*stored.notes, *found)))
