"""Depth and disparity as auxiliary pictures of HEIC photographs, through pillow-heif (extra `heif`).

What the values mean stands in Apple's XMP data or, in files of others, in the coded pictures themselves.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from prv2cli.choices import Kind
from prv2cli.depth_files.embedded.apple import apple_depth, apple_says
from prv2cli.depth_files.embedded.heif_items import xmp_packets
from prv2cli.depth_files.embedded.levels import UNSAID, EmbeddedDepth, Levels, check_size, spread
from prv2cli.depth_files.embedded.xmp import Properties, parse_packet
from prv2cli.errors import InputError
from prv2cli.extras import import_pillow_heif

# HEVC's depth_representation_type -> what the levels grow with, and the names of the two ends.
_REPRESENTATIONS: dict[int, tuple[Kind, str, str]] = {
    0: ("inverse", "z_far", "z_near"),  # of 1/z
    1: ("inverse", "d_min", "d_max"),
    2: ("depth", "z_near", "z_far"),
}


def heic_depth(data: bytes, label: str) -> EmbeddedDepth | None:
    """The first auxiliary depth picture of a HEIC photograph, upright as libheif turns it; None where there is none.

    Raises MissingExtraError, InputError, whatever libheif raises for damaged bytes.
    """
    container = import_pillow_heif(label).open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    pictures = container[container.primary_index].info.get("depth_images") or []
    if not pictures:
        return None
    check_size(*pictures[0].size)
    levels = _levels(pictures[0])
    said = _apple(data)
    if said is not None:
        return apple_depth(levels, said, "HEIC")
    return _by_representation(levels, pictures[0].info.get("metadata") or {})


def _levels(picture: Any) -> Levels:
    width, height = picture.size
    stored = np.array(picture)[:height, :width]  # decodes
    if stored.ndim == 3:
        stored = stored[..., 0]
    return Levels(stored)


def _apple(data: bytes) -> Properties | None:
    """What Apple says of the depth picture. A damaged packet may belong to anything in the file: it is passed over."""
    for packet in xmp_packets(data):
        try:
            said = apple_says([parse_packet(packet)])
        except InputError:
            continue
        if said is not None:
            return said
    return None


def _by_representation(levels: Levels, about: Mapping[str, Any]) -> EmbeddedDepth:
    """By what HEVC says of depth. Its numbers have no unit that could be relied on."""
    known = _REPRESENTATIONS.get(int(about.get("representation_type", 1)))
    if known is None:
        raise InputError("its depth is stored by a table of its own, which prv2 does not read")
    kind, first, last = known
    ends = [float(about.get(name) or 0) for name in (first, last)]
    if int(about.get("representation_type", 1)) == 0:
        ends = [1 / end if end > 0 else 0.0 for end in ends]
    usable = ends[0] < ends[1] < float("inf")
    found = spread(levels, (ends[0], ends[1]) if usable else (0.0, 1.0), kind, "relative", "HEIC depth")
    return replace(found, no_unit=UNSAID if usable else "states no range")
