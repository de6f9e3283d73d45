"""The grey picture in which a photograph carries its depth, and what its levels mean.

picture ─ Levels ─ ranged (near and far), spread (two ends) ─> EmbeddedDepth
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from prv2cli.choices import Kind, Unit
from prv2cli.depth_files.formats.picture import open_picture, picture_kind, read_picture
from prv2cli.depth_files.formats.png import decode_png
from prv2cli.errors import InputError
from prv2cli.files.pictures.orientation import orientation_of, turn

MAX_PIXELS = 1 << 26  # of a map in a photograph: phones store some hundred thousand
_HALF = 0.5
UNSAID = "does not say its unit (--coarse-scale 1 if it is metres)"
Stated = Literal["metre", "1/metre", "relative"]  # the unit of what a file calls near and far


@dataclass(frozen=True)
class Levels:
    """The picture's numbers.

    Attributes:
        stored: (h, w) uint8 or uint16. half_step: how far a level may be from the one that was meant.
        holes: (h, w) bool, what the picture leaves transparent. upright: it states its own orientation and was turned.
    """

    stored: np.ndarray
    half_step: float = _HALF
    holes: np.ndarray | None = None
    upright: bool = False

    @property
    def top(self) -> int:
        """The largest level there can be."""
        return int(np.iinfo(self.stored.dtype).max)


@dataclass(frozen=True)
class EmbeddedDepth:
    """A depth map that came inside a photograph.

    Attributes:
        values: (h, w) float32: metres or 1/metres by `kind`, or of no unit. levels: (h, w), as they were stored.
        half_step: how far a value may be from the one that was meant. origin: which kind of file carries depth so.
        upright: it needs no turning with the photograph. no_unit: why it is relative; notes: what else a person should
            know. Both go on from the words "its depth".
    """

    values: np.ndarray
    levels: np.ndarray
    kind: Kind
    unit: Unit
    half_step: float
    origin: str
    upright: bool = False
    no_unit: str = ""
    notes: tuple[str, ...] = ()

    def turned(self, orientation: int) -> EmbeddedDepth:
        """The same turned upright from the photograph's EXIF orientation, unless it is."""
        if self.upright:
            return self
        return replace(self, values=turn(self.values, orientation), levels=turn(self.levels, orientation))


def read_levels(data: bytes) -> Levels:
    """The levels of a grey PNG of 8 or 16 bits, JPEG or WebP.

    Raises:
        InputError: another picture, or too many pixels. Whatever Pillow raises for damaged bytes.
    """
    kind = picture_kind(data[:12])
    if kind is None:
        raise InputError("its depth is no PNG, JPEG or WebP picture")
    header = open_picture(kind, data)
    check_size(header.width, header.height)
    upright = orientation_of(header) != 1
    picture = read_picture(io.BytesIO(data))
    if picture is not None:
        return Levels(picture.levels, picture.half_step, picture.holes, upright)
    deep = decode_png(io.BytesIO(data))  # as int32 or uint16, by Pillow's version
    return Levels(deep.numbers.astype(np.uint16, copy=False), _HALF, deep.holes, upright)


def check_size(width: int, height: int) -> None:
    """Raises InputError where a map has no pixels or claims more than any phone stores."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise InputError(f"its depth claims {width} x {height} pixels; {MAX_PIXELS} are read at most")


def spread(levels: Levels, ends: tuple[float, float], kind: Kind, unit: Unit, origin: str) -> EmbeddedDepth:
    """Values from the first of two ends (level 0) to the second (the top level)."""
    first, last = ends
    with np.errstate(all="ignore"):
        values = (first + levels.stored * ((last - first) / levels.top)).astype(np.float32)
    if levels.holes is not None:
        values[levels.holes] = np.nan
    step = abs(last - first) / levels.top
    return EmbeddedDepth(
        values, levels.stored, kind, unit, levels.half_step * step, origin, upright=levels.upright
    )


def ranged(
    levels: Levels, form: str, near: float | None, far: float | None, stated: Stated, origin: str
) -> EmbeddedDepth:
    """Depth stored between near and far, as GDepth and Dynamic Depth have it.

    Args:
        form: RangeLinear: the level grows with the depth; RangeInverse: with what 1/depth loses from 1/near to 1/far.
            In both the level 0 is near. stated: the unit of near and far; with "1/metre" that of what is stored, too.

    Without a near and a far that make sense the map is relative.

    Raises:
        InputError: another form.
    """
    inverse = {"rangelinear": False, "rangeinverse": True}.get(form.lower())
    if inverse is None:
        raise InputError(f"its depth is stored as {form[:40]!r}; prv2 knows RangeLinear and RangeInverse")
    ends = _ends(inverse, near, far)
    no_unit = UNSAID if stated == "relative" else ""
    if ends is None:
        ends, stated = (1.0, 0.0) if inverse else (0.0, 1.0), "relative"
        no_unit = "states no usable near and far"
    kind: Kind = "inverse" if inverse != (stated == "1/metre") else "depth"
    unit: Unit = "relative" if stated == "relative" else "metre"
    return replace(spread(levels, ends, kind, unit, origin), no_unit=no_unit)


def _ends(inverse: bool, near: float | None, far: float | None) -> tuple[float, float] | None:
    """What levels 0 and the top stand for; None where near and far cannot be what they are called."""
    if near is None or far is None or near == far or math.isinf(near):
        return None
    if not inverse:
        return (near, far) if math.isfinite(far) else None
    if near <= 0 or far <= 0:
        return None
    ends = 1 / near, 1 / far  # far may be infinite
    return ends if math.isfinite(ends[0]) and math.isfinite(ends[1]) else None
