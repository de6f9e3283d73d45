"""Dynamic Depth, of Android: pictures appended to a JPEG, listed with their lengths in its XMP data.

photograph | padding | item 1 | padding | item 2 ...       Container: Mime, Length, Padding, DataURI or Semantic
                                                           DepthMap: Format, Near, Far, Units, DepthURI
"""

from __future__ import annotations

from dataclasses import replace

from prv2cli.depth_files.embedded.gdepth import along_rays
from prv2cli.depth_files.embedded.jpeg_parts import JpegParts
from prv2cli.depth_files.embedded.levels import EmbeddedDepth, Stated, ranged, read_levels
from prv2cli.depth_files.embedded.xmp import Properties, number, structures
from prv2cli.depth_files.formats.picture import picture_kind
from prv2cli.errors import InputError

_DEPTH_MAP = "http://ns.google.com/photos/dd/1.0/depthmap/"
_ITEMS = (
    "http://ns.google.com/photos/dd/1.0/item/",
    "http://ns.google.com/photos/1.0/container/item/",
)
ORIGIN = "Dynamic Depth"
_UNITS: dict[str, Stated] = {"meters": "metre", "diopters": "1/metre"}
_SEMANTICS = ("depth", "depthmap", "android/depthmap")


def dynamic_depth(jpeg: JpegParts) -> EmbeddedDepth | None:
    """The depth map of a Dynamic Depth JPEG, as it is stored; None where there is none.

    Raises InputError where it is listed and not to be found, or damaged.
    """
    maps = [
        values
        for values in structures(jpeg.xmp, (_DEPTH_MAP,))
        if values.get("ItemSemantic", "depth").lower() != "segmentation"
    ]
    if not maps:
        return None
    about = next((values for values in maps if "Format" in values), maps[0])
    levels = read_levels(_item(jpeg, about.get("DepthURI", "")))
    stated = _UNITS.get(about.get("Units", "").lower(), "relative")
    found = ranged(
        levels,
        about.get("Format", "RangeInverse"),
        number(about, "Near"),
        number(about, "Far"),
        stated,
        ORIGIN,
    )
    return replace(found, notes=along_rays(about))


def _item(jpeg: JpegParts, uri: str) -> bytes:
    """The bytes of the depth picture: counted from the end of the photograph or, if that hits none, of the file."""
    items, index = _listed(jpeg, uri)
    length = _count(items[index], "Length")
    blocks = [_count(item, "Length") + _count(item, "Padding") for item in items]
    starts = [len(jpeg.data) - sum(blocks[index:])]
    if jpeg.end is not None:
        starts.insert(0, jpeg.end + _count(items[0], "Padding") + sum(blocks[1:index]))
    for start in starts:
        data = jpeg.data[start : start + length] if start > 0 else b""
        if len(data) == length and picture_kind(data[:12]) is not None:
            return data
    raise InputError("its depth map is not where its list of items says: it was cut short or edited")


def _listed(jpeg: JpegParts, uri: str) -> tuple[list[Properties], int]:
    """The list of items that has the depth map, and which of them it is; the photograph is the first."""
    for namespace in _ITEMS:
        items = structures(jpeg.xmp, (namespace,))
        for index, item in enumerate(items[1:], 1):
            if _is_depth(item, uri):
                return items, index
    raise InputError("it describes a depth map that its list of items does not have")


def _is_depth(item: Properties, uri: str) -> bool:
    return (uri != "" and item.get("DataURI") == uri) or any(
        item.get(name, "").lower() in _SEMANTICS for name in ("Semantic", "DataURI")
    )


def _count(item: Properties, name: str) -> int:
    """A number of bytes; what is none, or negative, is 0."""
    text = item.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
