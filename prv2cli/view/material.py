"""What a page shows: a photograph and depth maps, read, checked against each other and reduced to the page's size.

A photograph is averaged. A depth map is thinned out: each pixel of the page has the number of one pixel of the file.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from prv2cli.choices import Kind
from prv2cli.depth_files.formats.rows import row_bands
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.preview import ColourSpan, colour_span, is_affine
from prv2cli.depth_files.read import DepthMap
from prv2cli.errors import InputError
from prv2cli.photo.levels import to_8_bits
from prv2cli.photo.read import Photo
from prv2cli.resampling.aspect import ASPECT_TOLERANCE, same_aspect
from prv2cli.resampling.maps import nearest
from prv2cli.view.maps import read_map

Size = tuple[int, int]  # rows, columns
_QUALITY = 92
_LONGEST = 16384  # px: what browsers draw in one canvas


@dataclass(frozen=True)
class PhotoLayer:
    """jpeg: the photograph at the page's size. size: the file's, upright. focal: in widths of the photograph."""

    name: str
    size: Size
    shown: Size
    jpeg: bytes
    focal: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DepthLayer:
    """values: (*shown, ) float32 in metadata.unit, NaN = no depth. missing: pixels of the file without depth.

    affine: see preview.is_affine.
    """

    name: str
    size: Size
    values: np.ndarray
    missing: int
    span: ColourSpan
    affine: bool
    metadata: DepthMetadata
    notes: tuple[str, ...]

    @property
    def shown(self) -> Size:
        rows, columns = self.values.shape
        return rows, columns


def photo_layer(photo: Photo, pixels: int) -> PhotoLayer:
    """A photograph for a page of at most so many pixels."""
    rows, columns = photo.rgb.shape[:2]
    size = page_size((rows, columns), pixels)
    picture = Image.fromarray(photo.rgb if photo.rgb.dtype == np.uint8 else _eight_bits(photo.rgb))
    if size != (rows, columns):
        picture = picture.resize(size[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    focal = None if photo.focal_px is None else photo.focal_px / columns
    return PhotoLayer(_file_name(photo.name), (rows, columns), size, buffer.getvalue(), focal, photo.notes)


def depth_layers(
    sources: Sequence[Path | BinaryIO],
    photo: PhotoLayer,
    pixels: int,
    *,
    scale: float | None = None,
    kind: Kind | None = None,
    relative: bool = False,
) -> list[DepthLayer]:
    """Read the depth maps that lie over a photograph. `scale`, `kind`, `relative`: of files that do not say it.

    Maps of one unit share their colours. Raises InputError for what is no depth map of this photograph, UsageError
    for one of unknown unit.
    """
    options: dict[str, Any] = {"scale": scale, "kind": kind, "relative": relative}
    layers = []
    for source in sources:
        name, depth = read_map(source, **options)
        _check_aspect(name, depth.values.shape, photo)
        layers.append(_depth_layer(name, depth, pixels))
    return _with_shared_colours(layers)


def page_size(size: Size, pixels: int) -> Size:
    """The size, or the largest of the same aspect that has at most so many pixels and fits into a canvas."""
    rows, columns = size
    reduction = min(1.0, math.sqrt(pixels / (rows * columns)), _LONGEST / max(rows, columns))
    return max(1, int(rows * reduction)), max(1, int(columns * reduction))


def focal_of(layer: DepthLayer, photo: PhotoLayer) -> tuple[float | None, str | None]:
    """The focal length in widths of the picture, and where it is from; None where neither file tells."""
    width = layer.size[1]
    own = layer.metadata.own_focal(width)
    if own is not None:
        return own / width, layer.metadata.focal_origin or "the depth file"
    return (None, None) if photo.focal is None else (photo.focal, "exif")


def _depth_layer(name: str, depth: DepthMap, pixels: int) -> DepthLayer:
    rows, columns = depth.values.shape
    affine = is_affine(depth.values, depth.metadata)
    return DepthLayer(
        _file_name(name),
        (rows, columns),
        nearest(depth.values, page_size((rows, columns), pixels)),
        int(np.count_nonzero(np.isnan(depth.values))),
        colour_span(depth.values, depth.metadata.kind == "inverse", affine=affine),
        affine,
        depth.metadata,
        tuple(note.removeprefix(f"{name}: ") for note in depth.notes),  # the name may have folders in it
    )


def _check_aspect(name: str, size: Sequence[int], photo: PhotoLayer) -> None:
    rows, columns = size
    height, width = photo.size
    if not same_aspect((rows, columns), photo.size):
        raise InputError(
            f"{name} is {columns}x{rows}, the photograph {photo.name} {width}x{height}: the aspects differ by more "
            f"than {ASPECT_TOLERANCE:.0%}. Crop or rotate one of them (was the photograph turned upright?)"
        )


def _with_shared_colours(layers: list[DepthLayer]) -> list[DepthLayer]:
    """One colour for one depth in all maps of metres, of 1/metre too; a relative map has colours of its own."""
    spans = [layer.span for layer in layers if _is_physical(layer)]
    if not spans:
        return layers
    shared = ColourSpan(min(span.far for span in spans), max(span.near for span in spans))
    return [replace(layer, span=shared) if _is_physical(layer) else layer for layer in layers]


def _is_physical(layer: DepthLayer) -> bool:
    return not layer.metadata.unit.endswith("relative")


def _eight_bits(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint16 -> uint8, rounded; in bands."""
    small = np.empty(rgb.shape, np.uint8)
    for rows in row_bands(*rgb.shape[:2]):
        small[rows] = to_8_bits(rgb[rows])
    return small


def _file_name(label: str) -> str:
    """Without its folders, which are nobody's business."""
    return label.rpartition(os.sep)[2] or label
