"""Depth maps on disk: write, read, describe and convert them. Nothing here needs torch.

    write_depth(target, depth, metadata)   16-bit PNG and TIFF, float32 TIFF, .npy, .npz, .exr; whole or none
    read_depth(source)                     those and PFM, by prv2 or by others -> DepthMap(values, metadata)
    convert(source, target)                one into another, without a model
    depth_info(source)                     what a file holds, for people and programs

16-bit files: stored = round(depth * scale), 0 = no depth, 65535 = that or more. Float files: the depth, NaN =
no depth. A file by prv2 says its unit itself (depth_metadata.py). One by others does not: its reader must.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from prv2cli.depth_files.decode import Stored, decode, read_text
from prv2cli.depth_files.encode import ENCODERS, Rows, import_openexr, row_bands
from prv2cli.depth_files.metadata import SOFTWARE, Content, DepthMetadata, Kind
from prv2cli.depth_files.tiff_tiles import encode_tiled_tiff
from prv2cli.errors import InputError, Prv2Error, UsageError
from prv2cli.files.atomic import atomic_write, check_output, output_error
from prv2cli.files.text import shown
from prv2cli.version import __version__

__all__ = [
    "DEFAULT_SCALE",
    "DEPTH_SUFFIXES",
    "DepthMap",
    "DepthMetadata",
    "Dtype",
    "Kind",
    "WriteReport",
    "check_output",
    "convert",
    "depth_format",
    "depth_info",
    "read_depth",
    "read_depth_metadata",
    "write_depth",
]

Dtype = Literal["uint16", "float32"]
DEPTH_SUFFIXES = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".npy": "npy", ".npz": "npz", ".exr": "exr"}
DEFAULT_SCALE = 256.0  # KITTI and the PatchRefiner authors
_OTHERS = "unknown"  # the software of a file without our metadata


@dataclass(frozen=True)
class DepthMap:
    """values: (H, W) float32 in `metadata.unit`, NaN = no depth, everything else finite and above 0."""

    values: np.ndarray
    metadata: DepthMetadata


@dataclass(frozen=True)
class WriteReport:
    """What was written; how many pixels were clipped, are no depth, may be off by 1 % from rounding."""

    path: Path | None  # None for a stream
    clipped: int
    invalid: int
    bytes: int
    rounded: int = 0


# --- writing ------------------------------------------------------------------------------------------------


def depth_format(path: Path, flag: str | None = None) -> str:
    """The format to write: `flag` (`--format`) where given, else by the extension; PNG for `-`.

    Raises UsageError that names the known ones.
    """
    if flag is not None:
        name = DEPTH_SUFFIXES.get(f".{flag.lower().lstrip('.')}")
        if name is None:
            raise UsageError(f"--format {flag}: unknown; use png, tif, npy, npz or exr")
        return name
    if str(path) == "-":
        return "png"
    name = DEPTH_SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise UsageError(
            f"{shown(path)}: cannot tell the format from {path.suffix or 'a name without extension'!r}; "
            f"use {', '.join(DEPTH_SUFFIXES)}, or --format"
        )
    return name


def write_depth(
    target: Path | BinaryIO,
    depth: np.ndarray,
    metadata: DepthMetadata,
    *,
    fmt: str | None = None,
    dtype: Dtype = "uint16",
    scale: float = DEFAULT_SCALE,
    inverse: bool = False,
    tiled: bool = False,
    pending: ExitStack | None = None,
    on_band: Callable[[], None] = lambda: None,
) -> WriteReport:
    """Write `depth` (H, W), float, no depth = anything not finite and above 0.

    `metadata.unit` and `.kind` say what `depth` is; with `inverse` the file holds inverse depth, without it
    depth, so 1/x is stored where the two differ. `dtype` is obeyed by TIFF: PNG is always uint16, the others
    always float32. `scale` (steps per unit) is for uint16. The provenance in `metadata` is carried along.
    `tiled` makes a TIFF a tiled BigTIFF, for maps that are looked at piece by piece. With `pending` the file takes
    its place when that stack closes, and not at all when it closes with an exception: for files that belong together.
    `on_band` is called again and again on the way; what it raises ends the writing, which then leaves nothing.
    Metadata of kind "confidence" says that `depth` is a confidence: it is stored as it is.
    A path is replaced atomically; a stream (stdout) gets all the bytes at the end and need not seek.
    Raises UsageError, OutputError, MissingExtraError.
    """
    fmt = depth_format(target if isinstance(target, Path) else Path("-"), fmt)
    stored = _stored_dtype(fmt, dtype)
    if not _positive(scale):
        raise UsageError(f"--depth-scale {scale}: it must be a positive number")
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind not in "fiu":
        raise UsageError(f"a depth map is a 2-D array of numbers, not {depth.dtype} of shape {depth.shape}")
    if fmt == "exr":
        import_openexr()  # before the output is touched
    given = metadata.kind
    if given == "confidence":
        kind: Content = "confidence"
    else:
        kind = "inverse" if inverse else "depth"
        metadata = metadata.as_kind(kind)
    rows = Rows(depth, stored, scale, invert=kind != given, on_band=on_band)
    text = _describe(rows, metadata).to_json()
    with ExitStack() as now:
        file = (pending or now).enter_context(_opened_for_writing(target))
        if tiled and fmt == "tiff":
            encode_tiled_tiff(file, rows, text)
        else:
            ENCODERS[fmt](file, rows, text)
        file.flush()  # a full disk is found here, not when the file is to take its place
        size = file.tell()
    path = target if isinstance(target, Path) else None
    return WriteReport(path, rows.clipped, rows.invalid, size, rows.rounded)


def _stored_dtype(fmt: str, dtype: Dtype) -> np.dtype[Any]:
    if dtype not in ("uint16", "float32"):
        raise UsageError(f"--dtype {dtype}: use uint16 or float32")
    if fmt == "png" and dtype == "float32":
        raise UsageError("--dtype float32: a PNG holds integers only; use .tif, .npy, .npz or .exr")
    return np.dtype(np.uint16 if fmt == "png" or (fmt == "tiff" and dtype == "uint16") else np.float32)


def _describe(rows: Rows, metadata: DepthMetadata) -> DepthMetadata:
    """The metadata of the file that `rows` will make."""
    integers = rows.dtype == np.uint16
    now = rows.count_clipped() if integers else 0
    # What an earlier file clipped is still a lower bound here. In the same kind it is also the largest value,
    # so the pixels clipped now include it; in the other kind it is the smallest: these are other pixels.
    clipped = metadata.clipped + now if rows.invert else max(metadata.clipped, now)
    return replace(
        metadata,
        software=SOFTWARE,
        version=__version__,
        scale=float(rows.scale) if integers else 1.0,
        invalid=0.0 if integers else math.nan,
        clipped=clipped,
    )


@contextmanager
def _opened_for_writing(target: Path | BinaryIO) -> Iterator[BinaryIO]:
    """A file to write and seek in. A stream gets its bytes at the end: a failed encoding leaves it empty."""
    if isinstance(target, Path):
        check_output(target)
        with atomic_write(target) as file:
            yield file
        return
    buffer = io.BytesIO()
    yield buffer
    name = str(getattr(target, "name", "the output stream"))
    try:
        rest = buffer.getbuffer()
        while rest:  # an unbuffered stream (python -u) may take less than it is given
            rest = rest[target.write(rest) :]
        target.flush()
    except BrokenPipeError:  # the reader of our stdout has gone: not a failure to explain
        raise
    except OSError as exc:
        raise output_error(name, exc) from exc


# --- reading ------------------------------------------------------------------------------------------------


def read_depth(
    source: Path | BinaryIO,
    *,
    scale: float | None = None,
    kind: Kind | None = None,
    relative: bool = False,
    scale_flag: str = "--scale",
    relative_flag: str | None = None,
) -> DepthMap:
    """Read a depth map by prv2 or by others; zero, negative, infinite and NaN all become NaN.

    A file by prv2 says its scale, unit and kind. Explicit arguments win over it: `scale` (stored numbers per
    metre, or per 1/metre) makes the unit physical, `kind` renames the unit with it, `relative` drops the
    physical unit. A file by others needs `scale`, also where it holds floats (1 = metres), unless it is
    `relative`. Its `kind` is depth unless given. `scale_flag`, `relative_flag`: their names in messages.
    Raises UsageError where the unit is not known, InputError for whatever is wrong with the file.
    """
    name, stored = _decode(source)
    _check_depth(name, stored)
    metadata = _interpret(name, stored, scale, kind, relative, scale_flag)
    if metadata is None:
        raise UsageError(_unit_needed(name, stored, kind, scale_flag, relative_flag))
    values = _to_values(stored.numbers, metadata.scale)
    if np.isnan(values).all():
        raise InputError(f"{name}: no pixel holds a valid depth (all are 0, negative, infinite or NaN)")
    return DepthMap(values, metadata)


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


def _decode(source: Path | BinaryIO) -> tuple[str, Stored]:
    """The name for messages and the raw numbers."""
    if not isinstance(source, Path):
        name = shown(getattr(source, "name", "the input stream"))
        try:
            return name, decode(io.BytesIO(source.read()), name)
        except OSError as exc:
            raise InputError(f"{name}: cannot be read: {exc.strerror}") from exc
    name = shown(source)
    try:
        with source.open("rb") as file:
            return name, decode(file if file.seekable() else io.BytesIO(file.read()), name)
    except FileNotFoundError as exc:
        raise InputError(f"{name}: no such file") from exc
    except IsADirectoryError as exc:
        raise InputError(f"{name} is a folder; name a file in it") from exc
    except OSError as exc:
        raise InputError(f"{name}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise InputError(f"{name} is not a file name") from exc


def _check_depth(name: str, stored: Stored) -> None:
    """Refuse a confidence map, whatever unit is claimed for it."""
    if stored.metadata is not None and stored.metadata.kind == "confidence":
        raise InputError(
            f"{name}: a confidence map, not depth; give the depth map that was written beside it"
        )


def _interpret(
    name: str, stored: Stored, scale: float | None, kind: Kind | None, relative: bool, scale_flag: str
) -> DepthMetadata | None:
    """The metadata to read by, after the explicit arguments; None where the unit is not known."""
    if scale is not None and not _positive(scale):
        raise UsageError(f"{scale_flag} {scale}: it must be a positive number")
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


def _unit_needed(
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


def _to_values(numbers: np.ndarray, scale: float) -> np.ndarray:
    """(H, W) float32: numbers / scale, NaN = no depth. In bands: float64 never exists for the whole map."""
    values = np.empty(numbers.shape, np.float32)
    with np.errstate(all="ignore"):
        for rows in row_bands(*numbers.shape):
            band = numbers[rows]
            values[rows] = band if scale == 1 else band.astype(np.float64) / scale
            bad = ~(np.isfinite(values[rows]) & (values[rows] > 0))
            values[rows][bad] = np.nan
    return values


def _positive(number: float) -> bool:
    return math.isfinite(number) and 1e-9 <= number <= 1e9


# --- describing and converting ------------------------------------------------------------------------------


def depth_info(
    source: Path | BinaryIO, *, scale: float | None = None, kind: Kind | None = None
) -> dict[str, Any]:
    """What a depth file holds, ready for JSON. min, median and max are in `unit`, over the valid pixels.

    Where neither the file nor `scale` tells the unit it is "unknown" and the three are the stored numbers.
    Raises InputError, UsageError.
    """
    name, stored = _decode(source)
    if scale is not None or kind is not None:
        _check_depth(name, stored)
    metadata = _interpret(name, stored, scale, kind, False, "--scale")
    values = _to_values(stored.numbers, metadata.scale if metadata else 1.0)
    height, width = values.shape
    valid = values[~np.isnan(values)]
    info: dict[str, Any] = {
        "file": name,
        "format": stored.format,
        "dtype": stored.numbers.dtype.name,
        "width": width,
        "height": height,
        "unit": "unknown",
        "kind": kind or "unknown",
        "scale": None,
        "invalid": values.size - valid.size,
        "min": float(valid.min()) if valid.size else None,
        "median": float(np.median(valid)) if valid.size else None,
        "max": float(valid.max()) if valid.size else None,
    }
    if metadata:
        about = asdict(metadata)
        about["invalid_value"] = "NaN" if math.isnan(about["invalid"]) else 0
        del about["invalid"]
        info.update(about)
    return info


def convert(
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    *,
    scale: float | None = None,
    kind: Kind | None = None,
    relative: bool = False,
    out_scale: float = DEFAULT_SCALE,
    dtype: Dtype = "uint16",
    inverse: bool | None = None,
    fmt: str | None = None,
    relative_flag: str | None = None,
) -> WriteReport:
    """Read `source` as read_depth does and write it to `target` as write_depth does.

    `inverse` None keeps what the file holds. Model, focal length and the other provenance are carried along.
    Float to float of the same kind keeps every bit of a valid depth. `target` may be `source`.
    """
    fmt = depth_format(target if isinstance(target, Path) else Path("-"), fmt)
    _stored_dtype(fmt, dtype)
    if isinstance(target, Path):
        check_output(target)
    depth = read_depth(source, scale=scale, kind=kind, relative=relative, relative_flag=relative_flag)
    keep = depth.metadata.kind == "inverse"
    return write_depth(
        target,
        depth.values,
        depth.metadata,
        fmt=fmt,
        dtype=dtype,
        scale=out_scale,
        inverse=keep if inverse is None else inverse,
    )
