"""GDepth: a depth map as base64 text in a JPEG's XMP data (developers.google.com/depthmap-metadata)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace

from prv2cli.depth_files.embedded.jpeg_parts import JpegParts
from prv2cli.depth_files.embedded.levels import EmbeddedDepth, Stated, ranged, read_levels
from prv2cli.depth_files.embedded.xmp import Properties, merged, number
from prv2cli.errors import InputError

NAMESPACE = "http://ns.google.com/photos/1.0/depthmap/"
ORIGIN = "GDepth"
_PER_UNIT = {"m": 1.0, "mm": 1000.0}


def gdepth(jpeg: JpegParts) -> EmbeddedDepth | None:
    """The GDepth map of a JPEG, as it is stored; None where there is none. Raises InputError for a damaged one."""
    values = merged(jpeg.xmp, NAMESPACE)
    if "Data" not in values:
        return None
    levels = read_levels(_decoded(values["Data"]))
    per_unit = _PER_UNIT.get(values.get("Units", "").lower())
    near, far = number(values, "Near"), number(values, "Far")
    stated: Stated = "relative"
    if per_unit is not None:
        stated = "metre"
        near, far = (None if end is None else end / per_unit for end in (near, far))
    found = ranged(levels, values.get("Format", "RangeInverse"), near, far, stated, ORIGIN)
    return replace(found, notes=along_rays(values))


def along_rays(values: Properties) -> tuple[str, ...]:
    """A note where depth is a distance from the lens, in GDepth and Dynamic Depth."""
    if values.get("MeasureType", "").lower() != "opticray":
        return ()
    return ("was measured along the rays, not along the optical axis, and is taken as it is",)


def _decoded(text: str) -> bytes:
    letters = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except binascii.Error as error:
        raise InputError("its GDepth data are damaged: no base64 text") from error
