"""Photograph, coarse depth and refined depth side by side in one small picture (`--compare`).

    write_comparison(path, rgb, result)     ┌──────────┐ ┌──────────┐ ┌──────────┐
                                            │photograph│ │  coarse  │ │ refined  │
                                            └──────────┘ └──────────┘ └──────────┘

Both depths have the colours of the refined one's preview. The coarse one is enlarged bilinearly, as it would be without
prv2. Of a photograph on disk a reduced copy alone is held in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prv2cli.depth_files.ours.preview import ColourSpan, colour_span, colourise, preview_format, write_picture
from prv2cli.files.disk_array import DiskArray
from prv2cli.photo.levels import to_8_bits
from prv2cli.resampling.area import reduce_photograph
from prv2cli.resampling.maps import bilinear, nearest

if TYPE_CHECKING:
    from prv2cli.refine.fuse import Depth

PANEL = (1200, 592)  # rows, columns at most
GAP = 12  # white pixels between panels: all three are 1800 wide
_SAMPLES = 4  # of a depth map, along a panel's pixel: their colours are averaged


def write_comparison(path: Path, rgb: np.ndarray | DiskArray, result: Depth) -> None:
    """One .png, .jpg or .webp of the photograph (H, W, 3), its coarse and its refined depth, whole or not at all.

    Raises UsageError for an unknown extension, OutputError.
    """
    from PIL import Image

    size = panel_size(rgb.shape[0], rgb.shape[1])
    inverse = result.kind == "inverse"
    span = colour_span(result.depth, inverse, affine=result.affine)
    panels = [
        _photograph(rgb, size),
        _coloured(_coarse(result, size), result, size, span),
        _coloured(result.depth, result, size, span),
    ]
    gap = np.full((size[0], GAP, 3), 255, np.uint8)
    write_picture(path, Image.fromarray(np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)))


def comparison_format(path: Path) -> str:
    """Pillow's name for the format of a comparison. Raises UsageError that names the known extensions."""
    return preview_format(path, "--compare", "a comparison")


def panel_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of each panel: the photograph's own, or as many as fit."""
    reduction = min(1.0, PANEL[0] / height, PANEL[1] / width)
    return max(1, round(height * reduction)), max(1, round(width * reduction))


def _photograph(rgb: np.ndarray | DiskArray, size: tuple[int, int]) -> np.ndarray:
    return to_8_bits(reduce_photograph(rgb, size)[:])


def _coarse(result: Depth, size: tuple[int, int]) -> np.ndarray:
    """The coarse depth, enlarged to a panel where it is smaller; NaN where it has none that the result keeps."""
    larger = (max(size[0], result.coarse.shape[0]), max(size[1], result.coarse.shape[1]))
    values = bilinear(result.coarse, larger)
    if result.seen is None:
        return values
    return np.where(nearest(result.seen, larger), values, np.float32(np.nan))


def _coloured(depth: np.ndarray, kind: Depth, size: tuple[int, int], span: ColourSpan) -> np.ndarray:
    """(*size, 3) uint8 of a map (H, W), of `kind`, in memory or on disk: few of its pixels, in colour, averaged."""
    from PIL import Image

    steps = [max(1, old // (_SAMPLES * new)) for old, new in zip(depth.shape, size, strict=True)]
    some = depth[:: steps[0], :: steps[1]]
    colours = colourise(some, inverse=kind.kind == "inverse", affine=kind.affine, span=span)
    return np.asarray(Image.fromarray(colours).resize(size[::-1], Image.Resampling.BOX))
