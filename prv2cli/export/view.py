"""What is exported: a depth map with its camera, and the photograph and the confidence that lie over it.

    depth file, photograph, confidence ─ read_view ─┐
    a result of the refiner, with its photograph ───┴─ View ─ metres(step), closeness, colours(step)

Maps may lie on disk (files/disk_array.py): they are read by slices alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from prv2cli.choices import Kind
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.read import decode_source, read_depth, to_values
from prv2cli.errors import InputError, UsageError
from prv2cli.export.camera import Camera, Focal, Rays, choose_focal, choose_principal, first_of
from prv2cli.export.targets import Target
from prv2cli.files.text import shown
from prv2cli.photo.levels import to_8_bits
from prv2cli.photo.opening import MAX_PIXELS_DEFAULT
from prv2cli.photo.read import Photo, read_photo
from prv2cli.resampling.aspect import ASPECT_TOLERANCE, same_aspect
from prv2cli.resampling.maps import nearest


@dataclass(frozen=True)
class View:
    """A depth map as it is exported.

    Attributes:
        depth: (H, W) float32 in `metadata.unit`, of depth or inverse depth as `metadata.kind` says, NaN = no depth.
        camera: None where nobody knows the focal length.
        rgb: (H, W, 3) uint8 or uint16, sRGB. texture: the photograph in its own size.
        confidence: (H, W) float32 in 0..1, NaN = not known.
        half_step: how far `depth` may be from the true value because integers were stored.
        notes: what a person should know of how the files were read.
    """

    name: str
    depth: np.ndarray
    metadata: DepthMetadata
    camera: Camera | None
    rgb: np.ndarray | None = None
    texture: np.ndarray | None = None
    confidence: np.ndarray | None = None
    half_step: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        return self.depth.shape[0], self.depth.shape[1]

    def metres(self, step: int = 1) -> np.ndarray:
        """(h, w) float32 depth of every `step`-th pixel in each direction, NaN = no depth."""
        values = self._values(step)
        return _reciprocal(values) if self.metadata.kind == "inverse" else values

    def closeness(self, step: int = 1, rows: slice = slice(None)) -> np.ndarray:
        """(h, w) float32 inverse depth of the same pixels, NaN = no depth; of some of their rows."""
        values = self._values(step, rows)
        return values if self.metadata.kind == "inverse" else _reciprocal(values)

    def colours(self, step: int = 1) -> np.ndarray | None:
        """(h, w, 3) uint8 of the same pixels; None without a photograph."""
        return None if self.rgb is None else to_8_bits(self.rgb[self._every(step)])

    def rays(self, step: int = 1) -> Rays:
        """Where the rays of the same pixels go."""
        assert self.camera is not None, "checked before"
        return self.camera.rays(step)

    def _values(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        values = np.array(self.depth[self._every(step, rows)], np.float32)
        # Without a unit there is no space, only closeness, and what is 0 and less is the farthest of a picture.
        known = np.isfinite(values)
        if not (self.metadata.signed and self.metadata.kind == "inverse"):
            known &= values > 0
        values[~known] = np.nan
        return values

    def _every(self, step: int, rows: slice = slice(None)) -> tuple[slice, slice]:
        """Slices of the map for every `step`-th pixel; `rows`: which of those rows."""
        down, across = (range(first_of(step, length), length, step) for length in self.shape)
        some = down[rows]
        return slice(some.start, some.stop, step), slice(across.start, across.stop, step)


def _reciprocal(values: np.ndarray) -> np.ndarray:
    """1 / values, NaN where that is no number any more."""
    with np.errstate(all="ignore"):
        inverse = np.reciprocal(values)
    inverse[np.isinf(inverse)] = np.nan
    return inverse


class Fixes(NamedTuple):
    """What a person can do where metres, or the focal length, are missing."""

    unit: str = "say how many of its numbers make a metre (--scale N), or make a picture (--picture)"
    focal: str = (
        "give it in pixels (--focal-px N), or the horizontal field of view in degrees (--fov N), or the photograph "
        "with its EXIF data"
    )


def missing(
    name: str, unit: str, focal: object, targets: Iterable[Target], fixes: Fixes | None = None
) -> str | None:
    """Why a map cannot be exported so: what lies in space needs metres and a focal length. None: it can.

    name: as messages call the map. focal: None where it is not known.
    """
    spatial = [target for target in targets if target.needs_space]
    fixes = fixes or Fixes()
    if spatial and unit.endswith("relative"):
        what = f"{name} is relative, without metres, and points, meshes, normals and layers need them; {fixes.unit}"
    elif spatial and focal is None:
        what = f"nobody says the focal length of {name}; {fixes.focal}"
    else:
        return None
    return f"{spatial[0].flag} {shown(spatial[0].path)}: {what}"


def check_view(view: View, targets: Iterable[Target]) -> None:
    """Raises UsageError where something is missing."""
    problem = missing(view.name, view.metadata.unit, view.camera, targets)
    if problem:
        raise UsageError(problem)


def read_view(
    depth: Path | BinaryIO,
    photo: Path | None = None,
    *,
    targets: Iterable[Target],
    scale: float | None = None,
    kind: Kind | None = None,
    focal_px: float | None = None,
    fov: float | None = None,
    principal: tuple[float, float] | None = None,
    confidence: Path | None = None,
    max_pixels: int = MAX_PIXELS_DEFAULT,
) -> View:
    """A depth file, as read_depth reads it, with the photograph and the confidence that belong to it.

    A picture for the eye needs no unit: where nothing else is asked for, a file that says none will do.
    Raises UsageError, InputError: what check_view refuses, too.
    """
    targets = list(targets)
    spatial = [target for target in targets if target.needs_space]
    found = read_depth(depth, scale=scale, kind=kind, any_unit=not spatial)
    metadata, (height, width) = found.metadata, found.values.shape
    name = shown(depth) if isinstance(depth, Path) else "the depth map"
    camera = None
    problem = missing(name, metadata.unit, "not known yet", targets)
    if problem:
        raise UsageError(problem)
    picture = None if photo is None else read_photo(photo, max_pixels=max_pixels)
    notes = list(found.notes)
    if picture is not None:
        notes += [f"{picture.name}: {note}" for note in picture.notes]
        check_aspect(picture, (height, width))
    if spatial:
        exif = None if picture is None else _focal_over(picture, width)
        focal = choose_focal(width, focal_px=focal_px, fov=fov, metadata=metadata, exif_px=exif)
        camera = camera_of(width, height, focal, principal, metadata)
        if camera is not None and any(target.suffix == ".glb" for target in spatial):
            notes += _shifted(name, camera)
    view = View(
        name,
        found.values,
        metadata,
        camera,
        rgb=None if picture is None else _over(picture.rgb, (height, width)),
        texture=None if picture is None else picture.rgb,
        confidence=None if confidence is None else read_confidence(confidence, (height, width)),
        half_step=found.half_step,
        notes=tuple(notes),
    )
    check_view(view, targets)
    return without_steps(view) if spatial else view


def _shifted(name: str, camera: Camera) -> list[str]:
    """What a glTF file cannot say of the camera in it."""
    across, down = (camera.width / 2 - camera.principal[0], camera.principal[1] - camera.height / 2)
    if max(abs(across), abs(down)) < 0.5:
        return []
    longer = max(camera.width, camera.height)
    return [
        f"{name}: its principal point is not in the middle, and no camera of a .glb can tell: to look through it, set "
        f"its shift to {across / longer:.4f}, {down / longer:.4f} (Blender: Shift X, Y)"
    ]


def camera_of(
    width: int,
    height: int,
    focal: Focal | None,
    principal: tuple[float, float] | None = None,
    metadata: DepthMetadata | None = None,
) -> Camera | None:
    """The camera, where its focal length is known."""
    if focal is None:
        return None
    return Camera(width, height, focal, choose_principal(width, height, principal, metadata))


def check_aspect(photo: Photo, size: tuple[int, int]) -> None:
    """Refuse a photograph that cannot lie over a map of `size` (rows, columns). Raises UsageError."""
    rows, columns = photo.rgb.shape[:2]
    if same_aspect((rows, columns), size):
        return
    turned = " as if it were turned" if same_aspect((columns, rows), size) else ""
    fix = (
        "turn one of them; prv2 reads photographs upright, as their EXIF data say"
        if turned
        else "give the photograph that the depth belongs to"
    )
    raise UsageError(
        f"PHOTO {photo.name}: its {columns} x {rows} pixels do not lie over the depth map's {size[1]} x {size[0]}"
        f"{turned}: the aspects differ by more than {ASPECT_TOLERANCE:.0%}; {fix}"
    )


def _focal_over(photo: Photo, width: int) -> float | None:
    """What EXIF tells, in pixels of a map of that width."""
    return None if photo.focal_px is None else photo.focal_px * width / photo.rgb.shape[1]


def _over(rgb: Any, size: tuple[int, int]) -> np.ndarray:
    return rgb if rgb.shape[:2] == size else nearest(rgb, size)


def read_confidence(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 in 0..1, NaN = not known. Raises InputError for a file that is none, or of another size."""
    name, stored = decode_source(path)
    if stored.metadata is None or stored.metadata.kind != "confidence":
        raise InputError(f"{name}: not a confidence map; it is what prv2 refine --confidence FILE writes")
    if stored.numbers.shape != size:
        rows, columns = stored.numbers.shape
        raise InputError(f"{name}: {columns} x {rows} pixels, and the depth map has {size[1]} x {size[0]}")
    return to_values(stored.numbers, stored.metadata.scale, stored.holes)


def without_steps(view: View) -> View:
    """The same view with the steps of integer files taken out of its depth: nowhere by more than half a step."""
    if view.half_step == 0:
        return view
    import torch

    from prv2cli.restoration.quantised import unstep

    known = np.isfinite(view.depth)
    values = torch.from_numpy(np.where(known, view.depth, np.float32(0)))[None, None]
    smooth = unstep(values, view.half_step)[0, 0].numpy()
    smooth[~known] = np.nan
    return replace(view, depth=smooth)
