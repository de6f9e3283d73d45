"""16-bit PNGs: how near each pixel is, in grey, for other programs' depth effects; and normals in colours.

Grey: white is near, black is far or has no depth; inverse depth between two of its percentiles, evenly. It shows shape,
not numbers. Normals: from -1..1 to 0..65535, x in red, y in green, z in blue; black where there is no depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from prv2cli.depth_files.formats.png import write_png
from prv2cli.depth_files.formats.rows import row_bands
from prv2cli.depth_files.ours.preview import PERCENTILES, closeness_of, colour_span, is_affine
from prv2cli.depth_files.ours.signature import MADE_BY
from prv2cli.export.normals import normals_in_bands
from prv2cli.export.view import View

WHITE = 65535
_SOFTWARE = "Software"  # the key of a PNG's text


def write_picture(file: BinaryIO, view: View, percentiles: tuple[float, float] = PERCENTILES) -> None:
    """How near each pixel is, (H, W) of 16 bits."""
    inverse, affine = view.metadata.kind == "inverse", is_affine(view.depth, view.metadata)
    span = colour_span(view.depth, inverse, percentiles, affine=affine)

    def bands() -> Iterator[np.ndarray]:
        for rows in row_bands(*view.shape):
            near = closeness_of(view.depth[rows], inverse, affine)
            grey = np.clip((near - span.far) * (WHITE / (span.near - span.far)), 0, WHITE)
            yield np.rint(np.nan_to_num(grey)).astype(np.uint16)

    write_png(file, view.shape, bands(), (_SOFTWARE, f"{MADE_BY} picture"))


def write_normals_png(
    file: BinaryIO, view: View, *, radius: int | None = None, directx: bool = False
) -> None:
    """Normals, (H, W, 3) of 16 bits; `directx`: with y down."""
    write_png(file, view.shape, _in_colours(view, radius, directx), (_SOFTWARE, f"{MADE_BY} normals"))


def _in_colours(view: View, radius: int | None, directx: bool) -> Iterator[np.ndarray]:
    for normals in normals_in_bands(view, radius=radius):
        known = normals.any(axis=-1, keepdims=True)
        if directx:
            normals[..., 1] *= -1
        yield np.where(known, np.rint((normals + 1) * (WHITE / 2)), 0).astype(np.uint16)
