"""Refine a photograph that does not fit in memory: the same steps and values as Refiner.refine, results on disk.

    photo_on_disk ─ pixels on disk ─┬─ shrunk band by band ─ coarse network, guide
                                    ├─ half size, on disk ── pass at half size ─┐
                                    └─ tiles ── refiner ── BandBlender <────────┘
                                                              │ finished rows
    write_streamed <─────────────── depth on disk <───────────┘

In memory are the result of the pass at half size (one byte for each pixel of the photograph), the rows that one
row of tiles covers, and the tiles at work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from prv2cli.coarse.network import Kind, Unit
from prv2cli.depth_files.encoding import Encoding, write
from prv2cli.depth_files.metadata import DepthMetadata
from prv2cli.depth_files.write import WriteReport
from prv2cli.errors import UsageError
from prv2cli.files.disk_array import DiskArray
from prv2cli.refine.plan import DEFAULT_OVERLAP, Tta, check_passes
from prv2cli.refine.refiner import Refiner, timed
from prv2cli.refine.result import Depth
from prv2cli.refine.tile_loop import Progress
from prv2cli.tiling.disagreement import Disagreement, to_confidence
from prv2cli.tiling.plan import Tile, TilePlan, place, seam_excess


@contextmanager
def refine_streamed(
    refiner: Refiner,
    rgb: DiskArray,
    *,
    coarse_depth: np.ndarray | None = None,
    coarse_kind: Kind = "depth",
    coarse_unit: Unit = "metre",
    focal_px: float | None = None,
    tile: tuple[int, int] | int = 0,
    overlap: float = DEFAULT_OVERLAP,
    batch_size: int = 0,
    mode: str | None = None,
    tta: Tta = "auto",
    confidence: bool = False,
    progress: Progress = lambda done, total: None,
) -> Iterator[Depth]:
    """As Refiner.refine, of a photograph on disk (on_disk.photo_on_disk). The values are the same.

    `depth` and `confidence` of the result are DiskArrays (H, W) float32 on the photograph's disk, until the block
    ends.

    Raises:
        As Refiner.refine; UsageError for the paper's tilings, whose tiles grow with the photograph; DiskFullError.
    """
    if mode is not None:
        raise UsageError(
            f"--mode {mode}: the paper's tiles are a sixteenth of the photograph, too large to work in bands; "
            "leave --mode out"
        )
    plan = refiner.plan(*rgb.shape[:2], tile=tile, overlap=overlap)
    flip = check_passes(plan, None, tta, confidence)
    seconds: dict[str, float] = {}
    with ExitStack() as files, torch.inference_mode():
        out = files.enter_context(DiskArray(rgb.shape[:2], np.float32, rgb.folder))
        spread = None
        if confidence:
            spread = files.enter_context(DiskArray(rgb.shape[:2], np.float32, rgb.folder))
        views = refiner.views(
            rgb,
            coarse_depth,
            coarse_kind,
            coarse_unit,
            focal_px,
            tile=tile,
            batch_size=batch_size,
            flip=flip,
            seconds=seconds,
        )
        with timed(seconds, "tiles"):
            blender = BandBlender(plan, out, passes=len(views), disagreement=spread)
            batch = refiner.refine_into(blender, views, batch_size, progress)
            blender.finish()
        ready, passes = views[0].ready, len(views)
        coarse, scale, target = ready.coarse, ready.scale, ready.target()
        del views, ready  # the results of the passes at half size are the largest things in memory
        depth: Any = out
        certain: Any = spread
        with timed(seconds, "fuse"):
            seam = seam_excess(depth, plan, floor=scale.floor)
            refiner.correct(out, target, scale)
            for rows in out.bands():
                out[rows] = metres = scale.decode_in_place(out[rows])
                if spread is not None:
                    spread[rows] = to_confidence(scale.relative_in_place(spread[rows], metres))
        yield refiner.finished(depth, coarse, plan, seam, batch, seconds, passes, certain)


class BandBlender:
    """tiling.Blender for a grid whose tiles come row by row from the top: finished rows go to `out`.

    Only the rows that a tile still to come may touch are held. Sums are taken in the same order as there.
    """

    def __init__(
        self, plan: TilePlan, out: DiskArray, *, passes: int = 1, disagreement: DiskArray | None = None
    ) -> None:
        """`plan`: of plan_tiles. `out`, `disagreement` (where it is wanted): (height, width) float32."""
        assert plan.sums_to_one, "an irregular tiling needs its weights of the whole image"
        self.plan, self._out, self._disagreement = plan, out, disagreement
        self._share = np.float32(1 / passes)
        self._top = 0
        self._sum = np.zeros((0, plan.width), np.float32)
        self._compared = Disagreement(0, plan.width)

    def add(self, tile: Tile, values: np.ndarray, *, mirrored: bool = False) -> None:
        """Add one tile's (rows, columns) values; the part beyond the image is cut off."""
        (rows, columns), values, weight = place(self.plan, tile, values, mirrored=mirrored)
        weight *= self._share
        self._flush(rows.start)
        self._extend(rows.stop)
        window = (slice(0, rows.stop - rows.start), columns)
        self._sum[window] += values * weight
        if self._disagreement is not None:
            self._compared.add(window, values, weight)

    def finish(self) -> None:
        """Write what is left: call once, after the last tile."""
        self._flush(self.plan.height)

    def _flush(self, top: int) -> None:
        """Write the rows above `top`."""
        assert top >= self._top, "tiles come row by row from the top"
        done = top - self._top
        if done:
            self._out[self._top : top] = self._sum[:done]
            if self._disagreement is not None:
                self._disagreement[self._top : top] = self._compared.take(done)
            self._sum, self._top = self._sum[done:].copy(), top

    def _extend(self, bottom: int) -> None:
        missing = bottom - self._top - len(self._sum)
        if missing > 0:
            more = np.zeros((missing, self.plan.width), np.float32)
            self._sum = np.concatenate([self._sum, more])
            if self._disagreement is not None:
                self._compared.extend(missing)


def write_streamed(
    target: Path | BinaryIO,
    depth: DiskArray,
    metadata: DepthMetadata,
    encoding: Encoding,
    *,
    pending: ExitStack | None = None,
) -> WriteReport:
    """As encoding.write, of a map on disk. A TIFF is written as a tiled BigTIFF.

    Raises as write.write_depth; UsageError for .exr, which OpenEXR writes from memory only.
    """
    check_streamed(encoding)
    values: Any = depth
    return write(target, values, metadata, encoding, tiled=True, pending=pending)


def check_streamed(encoding: Encoding) -> None:
    """Refuse what cannot be written in bands, before any work. Raises UsageError."""
    if encoding.format == "exr":
        raise UsageError(
            "an .exr file is written from memory, and this photograph is too large for that; use .tif"
        )
