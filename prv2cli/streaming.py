"""Refine a photograph that does not fit in memory: the same steps and values as Refiner.refine, results on disk.

    image_bands.spool_photo ─ pixels on disk ─┬─ shrunk band by band ─ coarse network, guide
                                              ├─ half size, on disk ── pass at half size ─┐
                                              └─ tiles ── refiner ── BandBlender <────────┘
                                                                        │ finished rows
    write_streamed <───────────────────────── depth on disk <───────────┘

In memory are the result of the pass at half size (one byte for each pixel of the photograph), the rows that one
row of tiles covers, and the tiles at work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from prv2cli.coarse_branch import Kind, Unit
from prv2cli.depth_files import WriteReport, _describe, _opened_for_writing
from prv2cli.depth_metadata import DepthMetadata
from prv2cli.depth_metadata import Kind as DepthKind
from prv2cli.depth_writers import Rows
from prv2cli.errors import UsageError
from prv2cli.inference import DEFAULT_OVERLAP, Depth, Progress, Refiner, _timed, plan_photograph
from prv2cli.pipeline import Encoding, write
from prv2cli.spooled import SpooledArray
from prv2cli.tiff_tiles import encode_tiled_tiff
from prv2cli.tiling import Tile, TilePlan, seam_excess


@contextmanager
def refine_streamed(
    refiner: Refiner,
    rgb: SpooledArray,
    *,
    coarse_depth: np.ndarray | None = None,
    coarse_kind: Kind = "depth",
    coarse_unit: Unit = "metre",
    focal_px: float | None = None,
    tile: tuple[int, int] | int = 0,
    overlap: float = DEFAULT_OVERLAP,
    batch_size: int = 0,
    mode: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Iterator[Depth]:
    """As Refiner.refine, of a photograph on disk (image_bands.spool_photo). The values are the same.

    `depth` of the result is a SpooledArray (H, W) float32 on the photograph's disk, until the block ends.

    Raises:
        As Refiner.refine; UsageError for the paper's tilings, whose tiles grow with the photograph; DiskFullError.
    """
    if mode is not None:
        raise UsageError(
            f"--mode {mode}: the paper's tiles are a sixteenth of the photograph, too large to work in bands; "
            "leave --mode out"
        )
    pixels: Any = rgb
    plan = plan_photograph(
        refiner.config,
        *rgb.shape[:2],
        tile=tile or refiner._own_tile,
        overlap=overlap,
        largest=refiner._choose_tile(),
    )
    seconds: dict[str, float] = {}
    with SpooledArray(rgb.shape[:2], np.float32, rgb.folder) as out, torch.inference_mode():
        with _timed(seconds, "coarse"):
            coarse = refiner._coarse_depth(pixels, coarse_depth, coarse_kind, coarse_unit, focal_px)
            scale = refiner._space.of(coarse.values)
            normalised = scale.encode(coarse.values)
            features = coarse.features if refiner.bundle else refiner._encode_image(pixels, normalised)
        with _timed(seconds, "reduced"):
            for divisor in refiner._reduced_sizes(pixels, normalised):
                normalised = refiner._reduced_pass(divisor, pixels, normalised, features, tile, batch_size)
        with _timed(seconds, "tiles"):
            blender = BandBlender(plan, out)
            batch = _refine_tiles(refiner, pixels, normalised, features, blender, batch_size, progress)
        del normalised
        depth: Any = out
        with _timed(seconds, "fuse"):
            seam = seam_excess(depth, plan, floor=scale.floor)
            for rows in out.bands():
                out[rows] = scale.decode_in_place(out[rows])
        yield Depth(
            depth=depth,
            coarse=coarse.values[0, 0].numpy(),
            tiling=plan.description,
            seam=seam,
            tiles=len(plan.tiles),
            batch_size=batch,
            device=str(refiner.device),
            precision=str(refiner.dtype).removeprefix("torch."),
            unit=coarse.unit,
            seconds=seconds,
        )


def _refine_tiles(
    refiner: Refiner,
    pixels: Any,
    normalised: torch.Tensor,
    features: list[torch.Tensor],
    blender: BandBlender,
    batch_size: int,
    progress: Progress,
) -> int:
    """Refiner._refine_all into another blender; returns the batch size that went through."""
    plan = blender.plan
    batch = batch_size or refiner._choose_batch(plan)
    on_device = normalised.to(refiner.device)
    done, total = 0, len(plan.tiles)
    while done < total:
        tiles = plan.tiles[done : done + batch]
        try:
            values = refiner._refine_batch(pixels, on_device, features, tiles, plan)
        except torch.OutOfMemoryError as error:
            batch = refiner._smaller_batch(batch, tiles[0], error)
            continue
        for tile, value in zip(tiles, values, strict=True):
            blender.add(tile, value)
        done += len(tiles)
        progress(done, total)
    blender.finish()
    return batch


class BandBlender:
    """tiling.Blender for a grid whose tiles come row by row from the top: finished rows go to `out`.

    Only the rows that a tile still to come may touch are held. Sums are taken in the same order as there.
    """

    def __init__(self, plan: TilePlan, out: SpooledArray) -> None:
        """`plan`: of plan_tiles. `out`: (height, width) float32."""
        assert plan.sums_to_one, "an irregular tiling needs its weights of the whole image"
        self.plan, self._out = plan, out
        self._top = 0
        self._sum = np.zeros((0, plan.width), np.float32)

    def add(self, tile: Tile, values: np.ndarray) -> None:
        """Add one tile's (rows, columns) values; the part beyond the image is cut off."""
        rows, columns = tile.rows, tile.columns
        self._flush(rows.start)
        bottom = min(rows.start + rows.length, self.plan.height)
        self._extend(bottom)
        height, width = bottom - rows.start, min(columns.length, self.plan.width - columns.start)
        weight = rows.window[:height, None] * columns.window[None, :width]
        self._sum[:height, columns.start : columns.start + width] += values[:height, :width] * weight

    def finish(self) -> None:
        """Write what is left: call once, after the last tile."""
        self._flush(self.plan.height)

    def _flush(self, top: int) -> None:
        """Write the rows above `top`."""
        assert top >= self._top, "tiles come row by row from the top"
        done = top - self._top
        if done:
            self._out[self._top : top] = self._sum[:done]
            self._sum, self._top = self._sum[done:].copy(), top

    def _extend(self, bottom: int) -> None:
        missing = bottom - self._top - len(self._sum)
        if missing > 0:
            more = np.zeros((missing, self.plan.width), np.float32)
            self._sum = np.concatenate([self._sum, more])


def write_streamed(
    target: Path | BinaryIO, depth: SpooledArray, metadata: DepthMetadata, encoding: Encoding
) -> WriteReport:
    """As pipeline.write, of a map on disk. A TIFF is written as a tiled BigTIFF.

    Raises as depth_files.write_depth; UsageError for .exr, which OpenEXR writes from memory only.
    """
    check_streamed(encoding)
    values: Any = depth
    if encoding.format != "tiff":
        return write(target, values, metadata, encoding)
    dtype = np.dtype(encoding.stored_as(metadata.unit))
    kind: DepthKind = "inverse" if encoding.inverse else "depth"
    rows = Rows(values, dtype, encoding.scale, invert=kind != metadata.kind)
    text = _describe(rows, metadata, kind).to_json()
    with _opened_for_writing(target) as file:
        encode_tiled_tiff(file, rows, text)
        size = file.tell()
    path = target if isinstance(target, Path) else None
    return WriteReport(path, rows.clipped, rows.invalid, size, rows.rounded)


def check_streamed(encoding: Encoding) -> None:
    """Refuse what cannot be written in bands, before any work. Raises UsageError."""
    if encoding.format == "exr":
        raise UsageError(
            "an .exr file is written from memory, and this photograph is too large for that; use .tif"
        )
