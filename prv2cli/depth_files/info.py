"""What a depth file holds, for people and programs."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from prv2cli.choices import Kind
from prv2cli.depth_files.holes import find_holes
from prv2cli.depth_files.read import decode_source, interpret, overruled, refuse_confidence, to_values


def depth_info(
    source: Path | BinaryIO, *, scale: float | None = None, kind: Kind | None = None
) -> dict[str, Any]:
    """What a depth file holds, ready for JSON. min, median and max are in `unit`, over the valid pixels.

    Where neither the file nor `scale` tells the unit it is "unknown" and the three are the stored numbers.
    Raises InputError, UsageError.
    """
    name, stored = decode_source(source)
    if scale is not None or kind is not None:
        refuse_confidence(name, stored)
    metadata = interpret(name, stored, scale, kind, False, "--scale")
    holes, found = find_holes(stored, metadata)
    if metadata is None:
        values = to_values(stored.numbers, 1.0, holes)
    else:
        values = to_values(stored.numbers, metadata.scale, holes, signed=metadata.signed)
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
    info["notes"] = [*stored.notes, *found, *(overruled(stored, metadata) if metadata else ())]
    return info
