"""The ways from a photograph to its depth, each run once and measured.

coarse pass ─┬─ up-sampling
             ├─ prv2
             ├─ PatchRefiner V2 in the authors' widths ─┐ m1, m2 and our overlapped grid
             └─ PatchRefiner ───────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from prv2cli.bench.meter import Spent, measured
from prv2cli.bench.refiners import AtProcessSize
from prv2cli.bench.report import OURS, Row
from prv2cli.coarse.network import CoarseDepth, CoarseNetwork
from prv2cli.model.depth_space import MIN_METRES, PlainMetres
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject, Tiling
from prv2cli.refine.tiles.grid import GridCanvas
from prv2cli.refine.tiles.loop import Prepared, TileLoop
from prv2cli.resampling.maps import bilinear
from prv2cli.tiling.blend import Blender
from prv2cli.tiling.plan import TilePlan

TILINGS = ("m1", "m2", "grid")
_ALIKE = {"m2": "m1"}  # their tiles are of one size: those of m1 tell how long those of m2 take


@dataclass(frozen=True)
class CoarsePass:
    """What a coarse network said of the whole photograph, and what that took."""

    depth: CoarseDepth
    spent: Spent


def coarse_pass(network: CoarseNetwork, rgb: np.ndarray, device: torch.device) -> CoarsePass:
    """One pass, as `prv2 refine` makes it."""
    with measured(device) as spent:
        depth = network.predict(rgb)
    return CoarsePass(depth, spent)


def up_sampling(coarse: CoarsePass, size: tuple[int, int], device: torch.device) -> Row:
    """The coarse map brought to the photograph's size bilinearly."""
    with measured(device) as spent:
        bilinear(coarse.depth.values[0, 0].numpy(), size)
    parts = {"coarse": coarse.spent.seconds, "fuse": spent.seconds}
    return _row("up-sampling", "-", (0, 0), parts, [coarse.spent, spent])


def prv2(refiner: Refiner, rgb: np.ndarray, given: CoarseDepth) -> Row:
    """The refiner behind the map that a coarse network made of the whole photograph, without its pass."""
    coarse = GivenDepth(given.values[0, 0].numpy(), given.kind, given.unit, stretched=True, estimated=True)
    subject = Subject(rgb, given=coarse)
    with measured(refiner.device) as spent:
        (depth,) = refiner.run([subject], RefineRequest(tta="none"))
    parts = {"guide": depth.seconds["coarse"], **{k: s for k, s in depth.seconds.items() if k != "coarse"}}
    return _row(OURS, depth.tiling, (depth.tiles, depth.tiles), parts, [spent])


def behind(row: Row, coarse: CoarsePass) -> Row:
    """The same with a coarse pass before it."""
    return replace(
        row,
        parts={"coarse": coarse.spent.seconds, **row.parts},
        processor=row.processor + coarse.spent.processor,
        process_peak=max(row.process_peak, coarse.spent.process_peak),
        device_peak=max(row.device_peak, coarse.spent.device_peak),
    )


def tiled(
    scheme: str, network: AtProcessSize, refiner: Refiner, rgb: np.ndarray, coarse: CoarsePass, limit: int
) -> Iterator[Row]:
    """Another tile network in the tile loop of `refiner`: a row a tiling, each without the coarse pass.

    limit: so many tiles of a tiling are run at most.
    """
    loop = TileLoop(network, refiner.device, refiner.dtype)
    values = coarse.depth.values.clamp_min(MIN_METRES)
    ready = Prepared(coarse.depth, PlainMetres.of(values), values, coarse.depth.features)
    found: dict[str, Row] = {}
    for name in TILINGS:
        plan = refiner.plan(rgb.shape[0], rgb.shape[1], Tiling(mode=None if name == "grid" else name))
        if name in _ALIKE and limit < len(plan.tiles):
            found[name] = _more_of(found[_ALIKE[name]], plan)
        else:
            found[name] = _run(scheme, loop, rgb, ready, plan, limit)
        yield found[name]


def _run(scheme: str, loop: TileLoop, rgb: np.ndarray, ready: Prepared, plan: TilePlan, limit: int) -> Row:
    some = replace(plan, tiles=plan.tiles[:limit])
    blender = Blender(some)
    with measured(loop.device) as spent, torch.inference_mode():
        loop.run([GridCanvas(rgb, ready, blender)], 0, lambda done, total: None)
        if len(some.tiles) == len(plan.tiles):
            blender.finish()
    counts = len(some.tiles), len(some.tiles)
    return _more_of(_row(scheme, "", counts, {"tiles": spent.seconds}, [spent]), plan)


def _more_of(row: Row, plan: TilePlan) -> Row:
    """As many tiles of the same kind as a plan has."""
    more = len(plan.tiles) / row.tiles
    return replace(
        row,
        tiling=plan.description,
        tiles=len(plan.tiles),
        parts={part: seconds * more for part, seconds in row.parts.items()},
        processor=row.processor * more,
    )


def _row(
    scheme: str, tiling: str, tiles: tuple[int, int], parts: dict[str, float], spent: Sequence[Spent]
) -> Row:
    return Row(
        scheme,
        tiling,
        *tiles,
        parts,
        sum(one.processor for one in spent),
        max(one.process_peak for one in spent),
        max(one.device_peak for one in spent),
    )
