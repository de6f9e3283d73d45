"""A depth map as a picture for people: near is bright and warm, far is dark, no depth is grey.

    colourise(depth)              (H, W) metres -> (H, W, 3) uint8
    write_preview(path, depth)    the same as a .png, .jpg or .webp file
    write_picture(path, picture)  any picture, signed as prv2's own
    colour_span, colour_table     what it is made of, for who draws elsewhere

The colours are spread over inverse depth, as eyes and disparities are, between its 2nd and 98th percentile.
They show shape, not numbers: the depth file has those.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prv2cli.depth_files.formats.rows import row_bands
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.signature import signature
from prv2cli.errors import OutputError, UsageError
from prv2cli.files.atomic import atomic_write, check_output

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
PERCENTILES = (2.0, 98.0)
INVALID_COLOUR = (128, 128, 128)  # no colour below is grey
# Far to near: even steps of OKLCH lightness (0.17 to 0.94), the hue turning from violet over red to yellow.
_COLOURS = (
    "080338 1b054b 30075c 470b68 600e70 7a1273 951872 b01c6d cb2263 "
    "e72851 f7463e f86e3f f98c4a faa75b fbbf71 fcd68a fdeba9"
)
_STEPS = 1024
_SAMPLE = 1 << 20  # pixels that the percentiles are taken from
_SAVE: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 3},
    "JPEG": {"quality": 92, "subsampling": 0},
    "WEBP": {"quality": 90, "method": 2},
}
_MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383}


def colourise(
    depth: np.ndarray,
    *,
    inverse: bool = False,
    affine: bool = False,
    percentiles: tuple[float, float] = PERCENTILES,
    span: ColourSpan | None = None,
) -> np.ndarray:
    """(H, W, 3) uint8 from `depth` (H, W), NaN = no depth; `inverse`: the values are inverse depth already, far at 0
    and below. `affine`: depth without a zero of its own, near at 0 and below.

    A map of one depth gets the middle colour, whatever the depth. `span`: of another map, to share its colours.
    """
    span = span or colour_span(depth, inverse, percentiles, affine=affine)
    picture = np.empty((*depth.shape, 3), np.uint8)
    for rows in row_bands(*depth.shape):
        picture[rows] = _colour_band(depth[rows], inverse, affine, span)
    return picture


def write_preview(path: Path, depth: np.ndarray, *, inverse: bool = False, affine: bool = False) -> None:
    """colourise() into a picture of the full size, whole or not at all.

    Raises UsageError for an unknown extension, OutputError.
    """
    from PIL.Image import fromarray, new

    height, width = depth.shape
    check_preview(path, height, width)
    check_output(path)
    span = colour_span(depth, inverse, affine=affine)
    picture = new("RGB", (width, height))
    for rows in row_bands(height, width):  # so that the colours exist once, inside the picture
        picture.paste(fromarray(_colour_band(depth[rows], inverse, affine, span)), (0, rows.start))
    write_picture(path, picture, "preview")


def check_preview(path: Path, height: int, width: int) -> None:
    """Raises UsageError for an unknown extension, OutputError for more pixels than its format can hold."""
    kind = preview_format(path)
    if max(height, width) > _MAX_SIDE.get(kind, 1 << 31):
        raise OutputError(f"{path}: {width} x {height} is too large for {kind}; use .png")


def write_picture(path: Path, picture: Image, holds: str | None = None) -> None:
    """A picture of Pillow's that says that prv2 made it, whole or not at all. Raises UsageError, OutputError.

    holds: what it is, in a word that it says, too.
    """
    kind = preview_format(path)
    check_output(path)
    buffer = io.BytesIO()  # in between, as Pillow's own writing loses the reason of a failure
    picture.save(buffer, kind, **_SAVE[kind], **signature(kind, holds))
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def preview_format(path: Path, flag: str = "--preview", what: str = "a preview") -> str:
    """Pillow's name for the format of a preview. Raises UsageError that names the known extensions."""
    kind = PREVIEW_SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{flag} {path}: {what} is a picture; use {', '.join(PREVIEW_SUFFIXES)}")
    return kind


@dataclass(frozen=True)
class ColourSpan:
    """The inverse depths that get the first and the last colour, or black and white."""

    far: float
    near: float


def colour_span(
    depth: np.ndarray,
    inverse: bool,
    percentiles: tuple[float, float] = PERCENTILES,
    *,
    affine: bool = False,
) -> ColourSpan:
    """What colourise() spreads its colours over."""
    step = max(1, round((depth.size / _SAMPLE) ** 0.5))
    closeness = closeness_of(depth[::step, ::step], inverse, affine)
    valid = closeness[~np.isnan(closeness)]
    if not valid.size:  # nothing, or nothing that the sample met
        return ColourSpan(0.0, 1.0)
    far, near = np.percentile(valid, percentiles)
    if near - far <= 1e-6 * abs(near):
        half = 0.5 * abs(near) or 0.5
        return ColourSpan(near - half, near + half)
    return ColourSpan(float(far), float(near))


def closeness_of(depth: np.ndarray, inverse: bool, affine: bool = False) -> np.ndarray:
    """Inverse depth in float32, NaN where there is no depth; of affine depth, which has none, depth itself below 0."""
    with np.errstate(all="ignore"):
        values = depth.astype(np.float32)
        if not inverse:
            values = -values if affine else 1.0 / values
        values[~(np.isfinite(values) & (inverse | affine | (values > 0)))] = np.nan
    return values


def is_affine(depth: np.ndarray, metadata: DepthMetadata) -> bool:
    """Whether a map of relative depth has no zero of its own: it reaches to 0 or below, where others have holes."""
    if metadata.kind != "depth" or not metadata.unit.endswith("relative"):
        return False
    return any(bool((depth[rows] <= 0).any()) for rows in row_bands(*depth.shape))


def _colour_band(depth: np.ndarray, inverse: bool, affine: bool, span: ColourSpan) -> np.ndarray:
    closeness = closeness_of(depth, inverse, affine)
    bad = np.isnan(closeness)
    closeness[bad] = span.far
    place = (closeness - span.far) * (_STEPS / (span.near - span.far))
    colours = colour_table()[np.clip(place, 0, _STEPS - 1).astype(np.intp)]
    colours[bad] = INVALID_COLOUR
    return colours


@cache
def colour_table() -> np.ndarray:
    """(_STEPS, 3) uint8, from far to near."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS.split()], np.float64)
    places = np.linspace(0, len(anchors) - 1, _STEPS)
    known = np.arange(len(anchors))
    table = np.stack([np.interp(places, known, anchors[:, c]) for c in range(3)], axis=1)
    return np.rint(table).astype(np.uint8)
