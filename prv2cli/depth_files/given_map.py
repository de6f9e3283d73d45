"""A map that is to be refined: from any file, in metres, of no unit, an 8-bit picture, or inside the photograph.

    read_given(FILE, ...)         -> GivenMap: values with NaN where there is none, kind, unit, how finely it was stored
    read_inside(PHOTOGRAPH, ...)  -> the same of the depth that came in a photograph (embedded/)

What a 0 is depends on the map. In metres it is a hole, as is every number below. Where there is no unit, 0 is as good
a value as any: the farthest in an inverse map, the nearest in one of depth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from prv2cli.choices import FocalOrigin
from prv2cli.depth_files.decode import READ_SUFFIXES, Stored
from prv2cli.depth_files.embedded.levels import EmbeddedDepth
from prv2cli.depth_files.embedded.read import read_embedded
from prv2cli.depth_files.formats.picture import Picture, read_picture
from prv2cli.depth_files.holes import find_holes, find_stray
from prv2cli.depth_files.ours.metadata import SOFTWARE, DepthMetadata, Kind, check_scale
from prv2cli.depth_files.read import decode_source, interpret, overruled, refuse_confidence, unit_needed
from prv2cli.errors import InputError, Prv2Error, UsageError
from prv2cli.files.once import read_once
from prv2cli.files.text import shown

Invalid = float | Literal["zero", "none"]
# By which maps are looked for in folders; one that is named may have any.
MAP_SUFFIXES = READ_SUFFIXES | {".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True)
class GivenMap:
    """A map and what is known of it.

    Attributes:
        values: (h, w) float32, NaN = none. half_step: how far one may be from the true one, by the way it was stored.
        origin: what it is, for the metadata of the result. notes: what a person should know.
        focal: the focal length that the file states, in widths of the map, and who had said it.
    """

    values: np.ndarray
    kind: Kind
    unit: Literal["metre", "relative"]
    half_step: float = 0.0
    origin: str = ""
    notes: tuple[str, ...] = ()
    focal: tuple[float, FocalOrigin | None] | None = None


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
        known, found = (stored.holes, ()) if invalid == "none" else find_holes(stored, metadata)
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
    if unit == "relative" and picture is None and invalid != "none" and metadata.software != SOFTWARE:
        known, found = find_stray(values, known)
        notes += tuple(f"{name}: {note}" for note in found)
    notes += _far(name, values if known is None else values[~known], metadata.kind, unit)
    if known is not None:
        values[known] = np.nan
    stored_kind: Kind = "inverse" if metadata.kind == "inverse" else "depth"
    own = metadata.own_focal(values.shape[1])
    focal = None if own is None else (own / values.shape[1], metadata.focal_origin)
    origin = f"file {shown(source.name)}"
    return _checked(name, GivenMap(values, stored_kind, unit, half, origin, notes, focal))


def read_inside(
    photograph: BinaryIO,
    label: str,
    *,
    scale: float | None = None,
    kind: Kind | None = None,
    relative: bool = False,
    invalid: Invalid | None = None,
) -> GivenMap:
    """Read the depth that came inside a photograph; the arguments are those of read_given.

    Args:
        label: what messages call the photograph. scale: its numbers per metre; of a map without a unit 1, if its near
            and far are metres. invalid: of the levels that are stored.

    Raises:
        What embedded.read.read_embedded raises; UsageError for an impossible scale.
    """
    if scale is not None:
        check_scale("--coarse-scale", scale)
    found = read_embedded(photograph, label)
    values = found.values / np.float32(scale or 1)
    unit: Literal["metre", "relative"] = (
        "metre" if scale is not None else "relative" if relative else found.unit
    )
    found_kind = kind or found.kind
    values[_without_value(values, found.levels, unit, invalid)] = np.nan
    what = f"{found.origin}, {values.shape[1]}x{values.shape[0]}"
    said = f"{label}: refining the depth in it ({what}, {'metres' if unit == 'metre' else 'no unit'})"
    remarks = [*found.notes, *_answered(found, found_kind, unit, relative=relative)]
    notes = (
        said,
        *(f"{label}: its depth {note}" for note in remarks),
        *_far(label, values, found_kind, unit),
    )
    origin = f"{found.origin}, from the photograph"
    return _checked(label, GivenMap(values, found_kind, unit, found.half_step / (scale or 1), origin, notes))


def _answered(found: EmbeddedDepth, kind: Kind, unit: str, *, relative: bool) -> list[str]:
    """Why a map has no unit, unless a flag has answered that; where a flag contradicts the file, that."""
    if kind != found.kind or (found.unit, unit) == ("metre", "relative"):
        of_unit = {"metre": "in metres", "relative": "without a unit"}
        return [
            f"calls itself {found.kind} {of_unit[found.unit]}, and is read as {kind} {of_unit[unit]}, as asked"
        ]
    return [found.no_unit] if found.no_unit and unit == "relative" and not relative else []


def _checked(name: str, found: GivenMap) -> GivenMap:
    """With a note of its holes. Raises InputError where there is nothing else."""
    holes = int(np.count_nonzero(np.isnan(found.values)))
    if holes == found.values.size:
        raise InputError(
            f"{name}: no pixel holds a value (all are holes by --coarse-invalid or the map's unit)"
        )
    note = (f"{name}: {holes} of its {found.values.size} pixels have no depth",) if holes else ()
    return replace(found, notes=(*found.notes, *note))


def opened_once(source: Path) -> Path | BinaryIO:
    """The file, or where it is a pipe what came out of it. Raises InputError."""
    try:
        return read_once(source)
    except OSError as error:
        raise InputError(f"{shown(source)}: cannot be read: {error.strerror}") from error


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


def _far(name: str, values: np.ndarray, kind: str, unit: str) -> tuple[str, ...]:
    """What a 0 and what lies below it were taken for in a relative map, where there are any."""
    far = int(np.count_nonzero(values <= 0)) if unit == "relative" and kind == "inverse" else 0
    return (f"{name}: {far} pixels of 0 or less are the farthest",) if far else ()


def kind_wanted(name: str, flag: str) -> UsageError:
    """Of an 8-bit picture: the error that asks for its kind."""
    return UsageError(
        f"{name} is an 8-bit picture and does not say whether near is bright; give {flag} inverse (near is bright, as "
        f"Depth Anything, MiDaS and disparity have it) or {flag} depth (near is dark)"
    )


def _of_picture(name: str, scale: float | None, kind: Kind | None) -> DepthMetadata:
    if kind is None:
        raise kind_wanted(name, "--coarse-kind")
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
        holes = _without_value(values, numbers, unit, invalid)
        own_hole = metadata.invalid == 0 and metadata.software == SOFTWARE
        if invalid is None and unit != "metre" and own_hole:  # our own 16-bit files say so
            holes |= numbers == 0
    values[holes] = np.nan
    return values


def _without_value(
    values: np.ndarray, stored: np.ndarray, unit: str, invalid: Invalid | None
) -> npt.NDArray[np.bool_]:
    """(h, w): where a map in `unit` has no value, by `invalid`, which is of the stored numbers, or by its unit."""
    holes = ~np.isfinite(values)
    if invalid == "zero" or isinstance(invalid, float):
        holes |= stored == (0 if invalid == "zero" else invalid)
    if invalid != "none" and unit == "metre":
        holes |= ~(values > 0)
    return holes
