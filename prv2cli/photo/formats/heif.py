"""HEIC, through pillow-heif (extra `heif`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from prv2cli.extras import import_pillow_heif
from prv2cli.photo.colour.coded import Coded, from_code
from prv2cli.photo.stored import Band, CheckSize, Stored, unpremultiplied


def open_heic(file: BinaryIO) -> Any:
    """The first picture, with all its bits, not decoded yet; opening.kind_of() has said what is missing for it."""
    container = import_pillow_heif("a stream").open_heif(file, convert_hdr_to_8bit=False)
    return container[container.primary_index]


def decode_heic(file: BinaryIO, check: CheckSize) -> Stored:
    """With all its bits; libheif already turns the picture upright."""
    heif = open_heic(file)
    check(*heif.size)
    info: Mapping[str, Any] = heif.info
    deep = np.asarray(heif).dtype != np.uint8  # decodes
    width, height = heif.size
    mode, bits = heif.mode.partition(";")[0], int(info.get("bit_depth", 8))

    def band(y0: int, y1: int) -> Band:
        # A new view each time keeps `heif` alive; older pillow-heif frees the pixels with it.
        values = np.asarray(heif)[y0:y1, :width]
        if deep:  # the samples stand in the upper bits; repeat them below, so that white is 65535
            values = values | (values >> bits)
        if not mode.endswith(("A", "a")):
            return Band(values, None)
        colour = values[..., 0] if mode.startswith("L") else values[..., :3]
        return (
            unpremultiplied(colour, values[..., -1]) if mode.endswith("a") else Band(colour, values[..., -1])
        )

    tags = Image.Exif()
    try:
        tags.load(info.get("exif") or b"")
        exif = dict(tags.get_ifd(0x8769))
    except Exception:  # as in pillow.with_metadata
        exif = {}
    model = "L" if mode.startswith("L") else "RGB"
    coded = _coded_colours(info)
    icc = info.get("icc_profile") or coded.icc
    return Stored(width, height, model, deep, band, icc=icc, exif=exif, notes=coded.notes)


def _coded_colours(info: Mapping[str, Any]) -> Coded:
    """What the colours are by their code, where no profile says it."""
    coding = info.get("nclx_profile")
    if info.get("icc_profile") or not isinstance(coding, Mapping):
        return Coded(None)
    found = from_code(int(coding.get("color_primaries", 1)), int(coding.get("transfer_characteristics", 1)))
    return found or Coded(None)
