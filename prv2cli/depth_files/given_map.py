"""A map that is to be refined, from any file: of metres, of no unit, or an 8-bit picture of one.

    read_given(FILE, ...) -> GivenMap: values with NaN where there is none, kind, unit, how finely it was stored

What a 0 is depends on the map. In metres it is a hole, as is every number below. Where there is no unit, 0 is as good
a value as any: the farthest in an inverse map, the nearest in one of depth.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from prv2cli.depth_files.decode import Stored
from prv2cli.depth_files.formats.picture import Picture, read_picture
from prv2cli.depth_files.holes import find_holes
from prv2cli.depth_files.ours.metadata import DepthMetadata, Kind
from prv2cli.depth_files.read import decode_source, interpret, overruled, refuse_confidence, unit_needed
from prv2cli.errors import InputError, Prv2Error, UsageError
from prv2cli.files.text import shown

Invalid = float | Literal["zero", "none"]


@dataclass(frozen=True)
class GivenMap:
    """values: (h, w) float32, NaN = none. half_step: how far one may be from the true one, by the way it was stored."""

    values: np.ndarray
    kind: Kind
    unit: Literal["metre", "relative"]
    half_step: float = 0.0
    notes: tuple[str, ...] = ()


def parse_invalid(text: str | None) -> Invalid | None:
    """The value of `--coarse-invalid`. Raises UsageError."""
    if text in (None, "zero", "none"):
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--coarse-invalid {shown(text)}: use a number, zero or none") from None


def read_given(
    source: Path,
    *,
    scale: float | None = None,
    kind: Kind | None = None,
    relative: bool = False,
    invalid: Invalid | None = None,
) -> GivenMap:
    """Read the map of `--coarse-depth`. The arguments are its flags and win over what a file says of itself.

    Args:
        invalid: the stored number that means no value; "none": every number is a value; None: see above.

    Raises:
        UsageError: the unit, or whether near is large or small, is not known. InputError: whatever is wrong with the
        file, and no valid pixel.
    """
    readable = opened_once(source)
    picture = picture_in(source, readable)
    if picture is None:
        name, stored = decode_source(readable)
        refuse_confidence(name, stored)
        metadata = interpret(name, stored, scale, kind, relative, "--coarse-scale")
        if metadata is None:
            raise UsageError(unit_needed(name, stored, kind, "--coarse-scale", "--coarse-relative"))
        known, found = find_holes(stored, metadata) if invalid is None else (stored.holes, ())
        half, notes = (
            0.0,
            tuple(f"{name}: {note}" for note in (*stored.notes, *found, *overruled(stored, metadata))),
        )
    else:
        name, stored, known = shown(source), Stored(picture.levels, None, "picture"), picture.holes
        metadata = _of_picture(name, scale, kind)
        half, notes = picture.half_step / metadata.scale, (_note(name, scale), *_transparent(name, known))
    unit: Literal["metre", "relative"] = "relative" if metadata.unit.endswith("relative") else "metre"
    values = _values(stored.numbers, metadata, unit, invalid)
    notes += _counted(name, values if known is None else values[~known], metadata.kind, unit)
    if known is not None:
        values[known] = np.nan
    if np.isnan(values).all():
        raise InputError(
            f"{name}: no pixel holds a value (all are holes by --coarse-invalid or the map's unit)"
        )
    stored_kind: Kind = "inverse" if metadata.kind == "inverse" else "depth"
    return GivenMap(values, stored_kind, unit, half, notes)


def opened_once(source: Path) -> Path | BinaryIO:
    """The file, or where it is a pipe what came out of it: it is looked at twice and can be read once only."""
    try:
        if not source.exists() or source.is_file() or source.is_dir():
            return source
        held = io.BytesIO(source.read_bytes())
    except OSError as error:
        raise InputError(f"{shown(source)}: cannot be read: {error.strerror}") from error
    held.name = str(source)
    return held


def picture_in(source: Path, readable: Path | BinaryIO) -> Picture | None:
    """The 8-bit picture in a file; None where it is something else, which the usual reader will judge."""
    try:
        if not isinstance(readable, Path):
            found = read_picture(readable)
            readable.seek(0)
            return found
        with readable.open("rb") as file:
            return read_picture(file)
    except InputError as error:
        raise InputError(f"{shown(source)}: {error}") from error
    except Prv2Error:
        raise
    except Exception:  # the decoders meet arbitrary bytes; the usual reader says what is wrong with them
        if not isinstance(readable, Path):
            readable.seek(0)
        return None


def _counted(name: str, values: np.ndarray, kind: str, unit: str) -> tuple[str, ...]:
    """What a 0 and what lies below it were taken for, where there are any."""
    if unit == "metre":
        holes = int(np.count_nonzero(np.isnan(values)))
        return (f"{name}: {holes} pixels have no depth and are filled from around them",) if holes else ()
    far = int(np.count_nonzero(values <= 0)) if kind == "inverse" else 0
    return (f"{name}: {far} pixels of 0 or less are the farthest",) if far else ()


def _of_picture(name: str, scale: float | None, kind: Kind | None) -> DepthMetadata:
    if kind is None:
        raise UsageError(
            f"{name} is an 8-bit picture and does not say whether near is bright; give --coarse-kind inverse (near is "
            "bright, as Depth Anything, MiDaS and disparity have it) or --coarse-kind depth (near is dark)"
        )
    unit = "relative" if scale is None else "metre"
    return DepthMetadata(software="unknown", unit=unit, scale=scale or 1.0, invalid=0.0).as_kind(kind)


def _note(name: str, scale: float | None) -> str:
    what = "a relative map without a unit" if scale is None else "a map in metres"
    return f"{name}: an 8-bit picture, 256 steps at most, taken as {what}; its steps are smoothed"


def _transparent(name: str, holes: np.ndarray | None) -> tuple[str, ...]:
    if holes is None:
        return ()
    return (f"{name}: {int(np.count_nonzero(holes))} transparent pixels have no depth",)


def _values(numbers: np.ndarray, metadata: DepthMetadata, unit: str, invalid: Invalid | None) -> np.ndarray:
    """(h, w) float32 in the map's unit, NaN = none."""
    with np.errstate(all="ignore"):
        values = (numbers / np.float64(metadata.scale)).astype(np.float32)
        holes = ~np.isfinite(values)
        if invalid == "zero":
            holes |= numbers == 0
        elif isinstance(invalid, float):
            holes |= numbers == invalid
        elif invalid is None and unit == "metre":
            holes |= ~(values > 0)
        elif invalid is None and metadata.invalid == 0 and metadata.software == "prv2cli":
            holes |= numbers == 0  # our own 16-bit files say so
    values[holes] = np.nan
    return values
