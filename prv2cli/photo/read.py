"""Read one photograph: any common format to upright sRGB pixels with nothing truncated. No torch.

    file or pipe -> identify (kinds) -> decode (formats/) -> Stored
                 -> colours (colour), alpha over white, upright (upright): band by band -> Photo

Every failure is one Prv2Error that names the file and the fix. Bands keep the memory at one decoded picture
plus the result, whatever has to be done to the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from prv2cli.files.hashing import hash_open_file
from prv2cli.files.pictures.orientation import turn
from prv2cli.photo.colour.to_srgb import ToSrgb, plan_srgb
from prv2cli.photo.focal import focal_px
from prv2cli.photo.formats.decode import decode
from prv2cli.photo.opening import MAX_PIXELS_DEFAULT, kind_of, label_of, opened, readable, size_check
from prv2cli.photo.stored import Stored
from prv2cli.photo.upright import BAND_PIXELS, srgb_band, upright_shape


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph ready for a model, and what is known about it."""

    rgb: np.ndarray  # (H, W, 3) uint8, or uint16 where the source has more than 8 bits; sRGB, upright
    focal_px: float | None  # focal length in pixels from EXIF
    notes: tuple[str, ...]  # what the reader had to do that a person should know
    sha256: str  # of the input bytes
    name: str  # as messages call it


def read_photo(
    source: Path | BinaryIO, *, max_pixels: int = MAX_PIXELS_DEFAULT, name: str | None = None
) -> Photo:
    """Read the photograph in a file or in a binary stream (a pipe will do), from where the stream stands.

    `name` is what messages call it; by default the path, or the stream's own name. More than `max_pixels`
    pixels are refused from the header, before anything is decoded.

    Raises UsageError for a folder, MissingExtraError for HEIC without pillow-heif, and InputError for
    everything that is not a whole, readable photograph.
    """
    label = name or label_of(source)
    with opened(source, label) as file, readable(label):
        return _read(file, label, max_pixels)


def _read(file: BinaryIO, label: str, max_pixels: int) -> Photo:
    """Read from an open seekable file; anything may be raised for bad bytes."""
    stored = decode(kind_of(file, label), file, size_check(max_pixels))
    plan = plan_srgb(stored.icc, stored.model, stored.deep)
    rgb, composited = _assemble(stored, plan)
    return photo_of(rgb, stored, plan, file, label, composited=composited)


def photo_of(
    rgb: np.ndarray, stored: Stored, plan: ToSrgb, file: BinaryIO, label: str, *, composited: bool
) -> Photo:
    """The upright sRGB pixels with what the file says of them."""
    notes = (*stored.notes, *plan.notes, *(["alpha channel composited on white"] if composited else []))
    focal = focal_px(stored.exif or {}, stored.width, stored.height)
    return Photo(rgb, focal, notes, hash_open_file(file), label)


def _assemble(stored: Stored, plan: ToSrgb) -> tuple[np.ndarray, bool]:
    """Bring all bands to upright sRGB: (H, W, 3) uint8 or uint16, and whether any pixel was transparent."""
    if stored.whole is not None and stored.orientation == 1 and plan.unchanged:
        return stored.whole, False
    rgb = np.empty(upright_shape(stored), np.uint16 if plan.deep else np.uint8)
    as_stored = turn(rgb, {6: 8, 8: 6}.get(stored.orientation, stored.orientation))
    composited = False
    step = max(1, BAND_PIXELS // stored.width)
    for y in range(0, stored.height, step):
        stop = min(y + step, stored.height)
        as_stored[y:stop], seen = srgb_band(stored, plan, y, stop)
        composited |= seen
    return rgb, composited
