"""Read depth maps by prv2 or by others: the numbers, what they are, and where no depth is. Nothing here needs torch.

    read_depth(source)            -> DepthMap: values in a known unit, NaN = no depth
    read_depth_metadata(source)   -> what a file by prv2 says of itself

A file by prv2 says its unit itself (metadata.py). One by others does not: its reader must.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from prv2cli.choices import Kind
from prv2cli.depth_files.decode import Stored, decode, read_text
from prv2cli.depth_files.formats.rows import row_bands
from prv2cli.depth_files.holes import find_holes
from prv2cli.depth_files.ours.metadata import DepthMetadata, check_scale
from prv2cli.errors import InputError, Prv2Error, UsageError
from prv2cli.files.parts import file_and_part
from prv2cli.files.text import shown

_OTHERS = "unknown"  # the software of a file without our metadata


@dataclass(frozen=True)
class DepthMap:
    """values: (H, W) float32 in `metadata.unit`, NaN = no depth, everything else finite and, unless `metadata.signed`,
    above 0.

    notes: what a person should know of how it was read, such as the numbers that were taken for no depth.
    half_step: how far a value may be from the true one because integers were stored; 0 of floats.
    """

    values: np.ndarray
    metadata: DepthMetadata
    notes: tuple[str, ...] = ()
    half_step: float = 0.0


def read_depth(
    source: Path | BinaryIO,
    *,
    scale: float | None = None,
    kind: Kind | None = None,
    relative: bool = False,
    scale_flag: str = "--scale",
    relative_flag: str | None = None,
    any_unit: bool = False,
) -> DepthMap:
    """Read a depth map by prv2 or by others; infinite and NaN become NaN, zero and negative too unless it is signed.

    A file by prv2 says its scale, unit and kind. Explicit arguments win over it: `scale` (stored numbers per
    metre, or per 1/metre) makes the unit physical, `kind` renames the unit with it, `relative` drops the
    physical unit. A file by others needs `scale`, also where it holds floats (1 = metres), unless it is
    `relative`; with `any_unit` it is taken for that, and floats keep 0 and less (without_unit). Its `kind` is depth
    unless given. `scale_flag`, `relative_flag`: their names in messages.
    Raises UsageError where the unit is not known, InputError for whatever is wrong with the file.
    """
    name, stored = decode_source(source)
    return depth_of(
        name,
        stored,
        scale=scale,
        kind=kind,
        relative=relative,
        scale_flag=scale_flag,
        relative_flag=relative_flag,
        any_unit=any_unit,
    )


def depth_of(
    name: str,
    stored: Stored,
    *,
    scale: float | None,
    kind: Kind | None,
    relative: bool,
    scale_flag: str,
    relative_flag: str | None,
    any_unit: bool = False,
) -> DepthMap:
    """What read_depth() makes of the raw numbers of a file, and with the same errors."""
    refuse_confidence(name, stored)
    if any_unit and scale is None and stored.metadata is None and stored.numbers.dtype.kind == "f":
        return without_unit(name, stored, kind)
    metadata = interpret(name, stored, scale, kind, relative, scale_flag)
    if metadata is None and any_unit:
        metadata = interpret(name, stored, scale, kind, True, scale_flag)
    if metadata is None:
        raise UsageError(unit_needed(name, stored, kind, scale_flag, relative_flag))
    holes, found = find_holes(stored, metadata)
    values = to_values(stored.numbers, metadata.scale, holes, signed=metadata.signed)
    if np.isnan(values).all():
        raise InputError(f"{name}: no pixel holds a valid depth (all are 0, negative, infinite or NaN)")
    half_step = 0.0 if stored.numbers.dtype.kind == "f" else 0.5 / metadata.scale
    notes = (*stored.notes, *found, *overruled(stored, metadata))
    return DepthMap(values, metadata, tuple(f"{name}: {note}" for note in notes), half_step)


def without_unit(name: str, stored: Stored, kind: Kind | None) -> DepthMap:
    """A map by others without a unit, in which 0 and less are values: the farthest (inverse) or the nearest.

    Raises InputError: no pixel holds a number.
    """
    refuse_confidence(name, stored)
    metadata = interpret(name, stored, None, kind, True, "--scale")
    assert metadata is not None
    holes, found = find_holes(stored, metadata)
    with np.errstate(over="ignore"):  # what float32 cannot hold is no depth
        values = stored.numbers.astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    if holes is not None:
        values[holes] = np.nan
    if np.isnan(values).all():
        raise InputError(f"{name}: no pixel holds a number")
    return DepthMap(values, metadata, tuple(f"{name}: {note}" for note in (*stored.notes, *found)))


def read_depth_metadata(source: Path) -> DepthMetadata | None:
    """What a depth file says of itself, None where it says nothing. The numbers are not read where that can be helped.

    Raises InputError for a file that is not there, is no depth file, or whose metadata is wrong.
    """
    try:
        with source.open("rb") as file:
            text = read_text(file)
        return None if text is None else DepthMetadata.from_json(text)
    except InputError as exc:
        raise InputError(f"{shown(source)}: {exc}") from exc
    except Prv2Error:
        raise
    except Exception as exc:  # the decoders meet arbitrary bytes
        raise InputError(f"{shown(source)}: not a readable depth file ({type(exc).__name__})") from exc


def decode_source(source: Path | BinaryIO) -> tuple[str, Stored]:
    """The name for messages and the raw numbers. FILE:NAME names one array of an .npz, one channel of an EXR."""
    if not isinstance(source, Path):
        name = shown(getattr(source, "name", "the input stream"))
        try:
            return name, decode(io.BytesIO(source.read()), name)
        except OSError as exc:
            raise InputError(f"{name}: cannot be read: {exc.strerror}") from exc
    name = shown(source)
    path, part = file_and_part(source)
    try:
        with path.open("rb") as file:
            return name, decode(file if file.seekable() else io.BytesIO(file.read()), name, part)
    except FileNotFoundError as exc:
        raise InputError(f"{name}: no such file") from exc
    except IsADirectoryError as exc:
        raise InputError(f"{name} is a folder; name a file in it") from exc
    except OSError as exc:
        raise InputError(f"{name}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise InputError(f"{name} is not a file name") from exc


def refuse_confidence(name: str, stored: Stored) -> None:
    """Refuse a confidence map, whatever unit is claimed for it."""
    if stored.metadata is not None and stored.metadata.kind == "confidence":
        raise InputError(
            f"{name}: a confidence map, not depth; give the depth map that was written beside it"
        )


def interpret(
    name: str, stored: Stored, scale: float | None, kind: Kind | None, relative: bool, scale_flag: str
) -> DepthMetadata | None:
    """The metadata to read by, after the explicit arguments; None where the unit is not known."""
    if scale is not None:
        check_scale(scale_flag, scale)
    metadata = stored.metadata
    if metadata is None:
        if scale is None and not relative:
            return None
        invalid = math.nan if stored.numbers.dtype.kind == "f" else 0.0
        metadata = DepthMetadata(software=_OTHERS, version=_OTHERS, invalid=invalid)
    if scale is not None or relative:
        physical = "relative" if relative else "metre"
        metadata = replace(metadata, unit=f"1/{physical}" if metadata.kind == "inverse" else physical)
    if scale is not None:
        metadata = replace(metadata, scale=float(scale))
    return metadata.as_kind(kind) if kind else metadata


def overruled(stored: Stored, taken: DepthMetadata) -> tuple[str, ...]:
    """A note where the file says one thing of its numbers and a flag another."""
    says = stored.metadata
    if says is None or (says.unit, says.scale) == (taken.unit, taken.scale):
        return ()
    said, used = (f"{m.unit} at a scale of {m.scale:g}" for m in (says, taken))
    return (f"it says {said} of itself, and is read as {used}, as asked",)


def unit_needed(
    name: str, stored: Stored, kind: Kind | None, scale_flag: str, relative_flag: str | None
) -> str:
    """The refusal of a file that does not say its unit, with the usual answers."""
    if kind == "inverse":
        ways = (
            f"{scale_flag} N where number / N is 1/metre (disparity: N = focal length in px x baseline in m)"
        )
    elif stored.numbers.dtype.kind == "f":
        ways = f"{scale_flag} 1 if the numbers are metres, {scale_flag} 1000 if millimetres"
    else:
        ways = f"{scale_flag} 256 (KITTI), {scale_flag} 1000 (millimetres, Open3D) or {scale_flag} 5000 (TUM)"
    relative = f", or {relative_flag} if it has no physical unit" if relative_flag else ""
    return f"{name} does not say its unit; give its numbers per metre: {ways}{relative}"


def to_values(
    numbers: np.ndarray, scale: float, holes: np.ndarray | None = None, *, signed: bool = False
) -> np.ndarray:
    """(H, W) float32: numbers / scale, NaN = no depth. In bands: float64 never exists for the whole map.

    holes: (H, W) bool, more pixels without depth. signed: 0 and less are values, too.
    """
    values = np.empty(numbers.shape, np.float32)
    with np.errstate(all="ignore"):
        for rows in row_bands(*numbers.shape):
            band = numbers[rows]
            values[rows] = band if scale == 1 else band.astype(np.float64) / scale
            bad = ~np.isfinite(values[rows])
            if not signed:
                bad |= ~(values[rows] > 0)
            if holes is not None:
                bad |= holes[rows]
            values[rows][bad] = np.nan
    return values
