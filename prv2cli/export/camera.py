"""The camera behind a depth map, a pinhole without distortion: where each pixel's ray goes, and whose word that is.

    choose_focal(...) ─ Camera ─ rays(step) ─ x, y of each ray at depth 1

Rays are in the camera's own frame as pictures are read: x to the right, y down, z away from the camera. What is written
has y up and z towards the camera, see points.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from prv2cli.choices import FocalOrigin
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.errors import UsageError
from prv2cli.files.pictures.field_of_view import field_of_view, focal_of_view

PRINCIPAL = "principal_px"  # a key that a depth file by others may have among its metadata: [x, y]


class Focal(NamedTuple):
    """A focal length in pixels of the depth map, and where it is from; None: a file that does not say."""

    pixels: float
    origin: FocalOrigin | None


class Rays(NamedTuple):
    """Where the rays of a grid of pixels go. x: (w,), y: (h,) at depth 1; spacing: from one to the next."""

    x: np.ndarray
    y: np.ndarray
    spacing: float


@dataclass(frozen=True)
class Camera:
    """A pinhole. The centre of the pixel in row i and column j lies at (j + 0.5, i + 0.5); principal: (x, y), too."""

    width: int
    height: int
    focal: Focal
    principal: tuple[float, float]

    def rays(self, step: int = 1) -> Rays:
        """Of every `step`-th pixel in each direction, beginning with first_of(step, ...)."""
        columns, rows = (np.arange(first_of(step, side), side, step) for side in (self.width, self.height))
        across = (columns + 0.5 - self.principal[0]) / self.focal.pixels
        down = (rows + 0.5 - self.principal[1]) / self.focal.pixels
        return Rays(across.astype(np.float32), down.astype(np.float32), step / self.focal.pixels)

    @property
    def fov_degrees(self) -> tuple[float, float]:
        """Horizontal and vertical, as if the principal point were in the middle."""
        return field_of_view(self.focal.pixels, self.width), field_of_view(self.focal.pixels, self.height)


def first_of(step: int, length: int) -> int:
    """The first pixel of every `step`-th of a side: the middle one of as many, or of all where there are fewer."""
    return (min(step, length) - 1) // 2


def choose_focal(
    width: int,
    *,
    focal_px: float | None = None,
    fov: float | None = None,
    metadata: DepthMetadata | None = None,
    exif_px: float | None = None,
) -> Focal | None:
    """The focal length in pixels of a map `width` wide: given, else its file's own, else of the photograph's EXIF data.

    fov: the horizontal field of view in degrees. exif_px: in pixels of the map. None where nobody tells.
    Raises UsageError for what no camera has.
    """
    if focal_px is not None and fov is not None:
        raise UsageError("--focal-px and --fov exclude each other: both tell the focal length")
    if focal_px is not None and not (math.isfinite(focal_px) and focal_px > 0):
        raise UsageError(f"--focal-px {focal_px}: it must be a positive number")
    if fov is not None:
        if not 0 < fov < 180:
            raise UsageError(f"--fov {fov}: it must be between 0 and 180 degrees")
        focal_px = focal_of_view(fov, width)
    if focal_px is not None:
        return Focal(focal_px, "given")
    own = None if metadata is None else metadata.own_focal(width)
    if metadata is not None and own is not None:
        return Focal(own, metadata.focal_origin)
    return None if exif_px is None else Focal(exif_px, "exif")


def choose_principal(
    width: int, height: int, given: tuple[float, float] | None, metadata: DepthMetadata | None = None
) -> tuple[float, float]:
    """The principal point (x, y) in pixels from the top left corner: given, else the file's own, else the middle.

    Raises UsageError where it is not even near the map.
    """
    own = _own_principal(metadata)
    x, y = given or own or (width / 2, height / 2)
    if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
        said = "--principal" if given else f"{PRINCIPAL} of the depth file"
        raise UsageError(f"{said} {x:g},{y:g}: far outside the map of {width} x {height} pixels")
    return x, y


def _own_principal(metadata: DepthMetadata | None) -> tuple[float, float] | None:
    found: Any = None if metadata is None else metadata.extra.get(PRINCIPAL)
    if not (isinstance(found, list) and len(found) == 2):
        return None
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in found):
        return None
    return float(found[0]), float(found[1])
