"""What Apple says of the depth in a photograph, in HEIC and in JPEG: XMP data beside the grey picture.

Disparity is 1/metre where its accuracy is absolute; of two lenses without calibration it is relative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

from prv2cli.choices import Kind, Unit
from prv2cli.depth_files.embedded.jpeg_parts import JpegParts
from prv2cli.depth_files.embedded.levels import EmbeddedDepth, Levels, read_levels, spread
from prv2cli.depth_files.embedded.xmp import Properties, merged, number

_PIXELS, _DEPTH = "http://ns.apple.com/pixeldatainfo/1.0/", "http://ns.apple.com/depthData/1.0/"
_KINDS: dict[str, Kind] = {"disparity": "inverse", "depth": "depth"}
HOLES = "may have holes that the phone did not fill; --coarse-invalid zero takes the stored 0 for one"


def apple_jpeg(jpeg: JpegParts) -> EmbeddedDepth | None:
    """The depth in one of the pictures behind the first of an Apple JPEG; None where there is none."""
    for data in jpeg.further_pictures():
        said = apple_says(JpegParts(data).xmp)
        if said is not None:
            return apple_depth(read_levels(data), said, "JPEG")
    return None


def apple_says(roots: Sequence[ElementTree.Element]) -> Properties | None:
    """What XMP data say of their picture; None where it is no depth but, say, a gain map or the matte of a portrait."""
    said = {**merged(roots, _DEPTH), **merged(roots, _PIXELS)}
    is_depth = said.get("AuxiliaryImageType") in _KINDS and "AuxiliaryImageSubType" not in said
    return said if is_depth else None


def apple_depth(levels: Levels, said: Properties, container: str) -> EmbeddedDepth:
    """The map by what is said of it."""
    kind = _KINDS[said["AuxiliaryImageType"]]
    ends = number(said, "FloatMinValue"), number(said, "FloatMaxValue")
    absolute = said.get("Accuracy") == "absolute"
    no_unit = "" if absolute else f"calls its accuracy {said.get('Accuracy', 'nothing')[:20]}: it has no unit"
    if ends[0] is None or ends[1] is None or not ends[0] < ends[1] < float("inf"):
        found = spread(levels, (0.0, 1.0), kind, "relative", "")
        no_unit = "states no range"
    else:
        unit: Unit = "metre" if absolute else "relative"
        found = spread(levels, (ends[0], ends[1]), kind, unit, "")
    notes = (HOLES,) if said.get("Filtered", "").lower() in ("false", "0") else ()
    origin = f"Apple {said['AuxiliaryImageType']} in {container}"
    return replace(found, origin=origin, no_unit=no_unit, notes=notes)
