"""Write a depth map to a file, whole or not at all, or to a stream.

16-bit files: stored = round(depth * scale), 0 = no depth, 65535 = that or more. Float files: the depth, NaN = no depth.
What the numbers are (unit, kind, scale, the model) travels inside every file (metadata.py).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from prv2cli.choices import Dtype
from prv2cli.depth_files.formats.rows import Rows, least_turned_over
from prv2cli.depth_files.formats.tiff import encode_tiled_tiff
from prv2cli.depth_files.ours.encode import DEFAULT_SCALE, ENCODERS, depth_format, stored_dtype
from prv2cli.depth_files.ours.metadata import SOFTWARE, Content, DepthMetadata, check_scale
from prv2cli.errors import UsageError
from prv2cli.extras import import_openexr
from prv2cli.files.atomic import atomic_write, check_output, output_error
from prv2cli.version import __version__


@dataclass(frozen=True)
class WriteReport:
    """What was written; how many pixels were clipped, are no depth, may be off by 1 % from rounding.

    unit, kind: of what is in the file.
    notes: of the file that was converted, what a person should know of how it was read.
    """

    path: Path | None  # None for a stream
    clipped: int
    invalid: int
    bytes: int
    unit: str
    kind: Content
    rounded: int = 0
    notes: tuple[str, ...] = ()


def write_depth(
    target: Path | BinaryIO,
    depth: np.ndarray,
    metadata: DepthMetadata,
    *,
    fmt: str | None = None,
    dtype: Dtype = "uint16",
    scale: float = DEFAULT_SCALE,
    inverse: bool = False,
    signed: bool = False,
    tiled: bool = False,
    pending: ExitStack | None = None,
    on_band: Callable[[], None] = lambda: None,
) -> WriteReport:
    """Write `depth` (H, W), float, no depth = anything not finite and above 0; `signed`: anything not finite.

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
    stored = stored_dtype(fmt, dtype)
    check_scale("--depth-scale", scale)
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind not in "fiu":
        raise UsageError(f"a depth map is a 2-D array of numbers, not {depth.dtype} of shape {depth.shape}")
    if fmt == "exr":
        import_openexr()  # a missing extra is said before the output is touched
    given = metadata.kind
    if given == "confidence":
        kind: Content = "confidence"
    else:
        kind = "inverse" if inverse else "depth"
        metadata = metadata.as_kind(kind)
    invert = kind != given
    least = least_turned_over(depth, given) if signed and invert else None
    rows = Rows(depth, stored, scale, invert, signed and not invert, least, on_band=on_band)
    text = _describe(rows, metadata).to_json()
    with ExitStack() as now:
        file = (pending or now).enter_context(opened_for_writing(target))
        if tiled and fmt == "tiff":
            encode_tiled_tiff(file, rows, text)
        else:
            ENCODERS[fmt](file, rows, text)
        file.flush()  # a full disk is found here, not when the file is to take its place
        size = file.tell()
    path = target if isinstance(target, Path) else None
    return WriteReport(path, rows.clipped, rows.invalid, size, metadata.unit, kind, rows.rounded)


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
def opened_for_writing(target: Path | BinaryIO) -> Iterator[BinaryIO]:
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
