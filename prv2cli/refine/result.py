"""From a blended map to what the caller gets: all that is known of the run stands beside the depth.

Views ─ Known.of (what of them is needed after the tiles) ─┐
Blended ───────────────────── fuse ────────────────────────┴─ depth_of ─> Depth
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from prv2cli.choices import FocalOrigin
from prv2cli.coarse.given import holes_of, pixels_in
from prv2cli.coarse.network import CoarseDepth
from prv2cli.files.disk_array import DiskArray
from prv2cli.model.config import RefinerConfig
from prv2cli.model.depth_space import Scale
from prv2cli.refine.fuse import Depth, fuse
from prv2cli.refine.prepare import timed
from prv2cli.refine.request import Subject
from prv2cli.refine.sky import sky_of
from prv2cli.refine.tiles.grid import View
from prv2cli.tiling.blend import Blended
from prv2cli.tiling.plan import TilePlan


class Known(NamedTuple):
    """What of a photograph's views is needed after its tiles.

    pixels: the photograph. coarse, scale, given: Prepared's of the first view.
    noise: standard deviation of what was taken out of the map. estimated: a coarse network made it.
    views: how many went through the tiles. focal: in pixels, and who said it. filled: pixels with depth where the given
    map has none.
    """

    pixels: np.ndarray | DiskArray
    coarse: CoarseDepth
    scale: Scale
    given: Tensor | None
    noise: float
    estimated: bool
    views: int
    focal: tuple[float | None, FocalOrigin | None]
    filled: int

    @classmethod
    def of(
        cls, views: Sequence[View], given_focal: float | None, subject: Subject, *, estimated: bool
    ) -> Known:
        """`given_focal`: in pixels, as it was asked for, before what the photograph and the network say."""
        ready = views[0].ready
        focals: list[tuple[float | None, FocalOrigin | None]] = [
            (given_focal, "given"),
            (subject.focal_px, "exif"),
            subject.focal_of_map or (None, None),
            (ready.coarse.estimated_focal_px, "estimated"),
        ]
        known = [(focal, origin) for focal, origin in focals if focal is not None]
        return cls(
            subject.rgb,
            ready.coarse,
            ready.scale,
            ready.given,
            0.0 if ready.noise is None else float(ready.noise.std()),
            estimated,
            len(views),
            known[0] if known else (None, None),
            0 if estimated else _filled(subject),
        )


class Ran(NamedTuple):
    """How tiles went through the refiner: torch's names of the device and the numbers, how many at a time."""

    device: str
    precision: str
    batch_size: int


def depth_of(
    blended: Blended,
    plan: TilePlan,
    known: Known,
    config: RefinerConfig,
    ran: Ran,
    seconds: dict[str, float],
) -> Depth:
    """The blended map becomes the result, in place.

    Args:
        seconds: by part, until here; "fuse" comes to it.
    """
    with timed(seconds, "fuse"):
        sky = sky_of(known.coarse)
        fused = fuse(
            blended,
            plan,
            known.scale,
            known.given,
            known.pixels,
            config,
            sky,
            noise=known.noise,
            measured=known.coarse.measured,
            estimated=known.estimated,
        )
    focal_px, focal_origin = known.focal
    normals, seen = known.coarse.normals, known.coarse.seen
    depth: Any = fused.depth
    confidence: Any = fused.confidence
    return Depth(
        depth=depth,
        coarse=known.coarse.values[0, 0].numpy(),
        tiling=plan.description,
        seam=fused.seam,
        tiles=len(plan.tiles) * known.views,
        batch_size=ran.batch_size,
        device=ran.device,
        precision=ran.precision,
        unit=known.coarse.unit,
        kind=known.coarse.kind,
        affine=known.coarse.affine,
        tta="flip" if known.views == 2 else None,
        confidence=confidence,
        masked=fused.masked,
        filled=known.filled,
        focal_px=focal_px,
        focal_origin=focal_origin,
        normals=None if normals is None else normals[0].numpy(),
        seen=None if seen is None else seen[0, 0].numpy(),
        seconds=seconds,
    )


def _filled(subject: Subject) -> int:
    """How many pixels have depth where the given map has none."""
    given = subject.given
    if given is None or given.keep_holes:
        return 0
    return pixels_in(holes_of(given.values, given.unit), subject.size)
