"""One depth file into another format, number type, scale or kind, without a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from prv2cli.choices import Dtype, Kind
from prv2cli.depth_files.ours.encode import DEFAULT_SCALE, depth_format, stored_dtype
from prv2cli.depth_files.ours.encoding import Encoding, write
from prv2cli.depth_files.ours.metadata import SOFTWARE
from prv2cli.depth_files.ours.write import WriteReport
from prv2cli.depth_files.read import read_depth
from prv2cli.files.atomic import check_output


def convert(
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    *,
    scale: float | None = None,
    kind: Kind | None = None,
    relative: bool = False,
    out_scale: float | None = None,
    dtype: Dtype | None = None,
    inverse: bool | None = None,
    fmt: str | None = None,
    relative_flag: str | None = None,
) -> WriteReport:
    """Read `source` as read_depth does and write it to `target` as `encoding.write` does.

    Floats by others that are `relative` keep their values of 0 and below: the farthest (inverse) or the nearest.
    `inverse` None keeps what the file holds; `out_scale` None keeps the scale of integers that prv2 wrote, where they
    stay of that kind, else it is DEFAULT_SCALE. Model, focal length and the other provenance are carried along.
    Float to float of the same kind keeps every bit of a valid depth. `target` may be `source`.
    """
    fmt = depth_format(target if isinstance(target, Path) else Path("-"), fmt)
    if dtype is not None:
        stored_dtype(fmt, dtype)
    if isinstance(target, Path):
        check_output(target)
    depth = read_depth(
        source, scale=scale, kind=kind, relative=relative, relative_flag=relative_flag, any_unit=relative
    )
    signed = depth.metadata.signed or bool((depth.values <= 0).any())
    keep = depth.metadata.kind == "inverse"
    turned = inverse is not None and inverse != keep
    if out_scale is None:
        own = depth.metadata.software == SOFTWARE and depth.half_step > 0 and scale is None and not turned
        out_scale = depth.metadata.scale if own else DEFAULT_SCALE
    encoding = Encoding(fmt, dtype, out_scale, keep != turned)
    report = write(target, depth.values, depth.metadata, encoding, signed=signed)
    return replace(report, notes=depth.notes)
