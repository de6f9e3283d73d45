"""What a photograph will take, told from its header: tiles, memory, disk, time. torch is needed for the time only.

    read_header ─ Header ─ memory_for ─ Memory ─ choose_way ─ "memory" | "bands" | InputError with the figures
                      └─── dry_run ──── Estimate

The figures per pixel are what the code allocates, counted at its worst moment and checked by measurement
(benchmarks/giant.py); the fixed ones are measured on Linux.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from prv2cli.errors import InputError
from prv2cli.machine.memory import available_host_memory, resident_memory
from prv2cli.photo.header import Header
from prv2cli.refine.request import RefineRequest
from prv2cli.refine.tiles.plan import BYTES_PER_TILE_PIXEL, TILE_SIZES
from prv2cli.tiling.plan import PAPER_SPLIT

if TYPE_CHECKING:
    from prv2cli.refine.refiner import Refiner
    from prv2cli.tiling.plan import TilePlan

Way = Literal["memory", "bands"]

_PROGRAM = 800_000_000  # torch, the shipped networks, one coarse pass
_REDUCING = 10  # bytes a pixel, beside the photograph, while it is brought to half size
_REDUCED_MAP = 1  # the result of the pass at half size: float32 for every fourth pixel
_RESULT = 4
_GIVEN = 20  # a given map, its holes filled, normalised, and what its own pyramids and masks take
_COMPARED = 8  # the smallest and the largest prediction of each pixel, for the confidence
_WEIGHT = 4  # the sum of the windows over each pixel, which is 1 with tiles of our own
_ROWS_HELD = 2.5  # the rows of a row of tiles, and their copies while they move on
_SHARE = 0.9  # of the available memory that is taken
_SECONDS_PER_PIXEL = 0.25e-6  # decoding, shrinking, writing: 4 megapixels a second and core, measured
_WARM_UP = 2


@dataclass(frozen=True)
class Memory:
    """Peak main memory of both ways, and the temporary disk space of bands, in bytes.

    `photograph`: of `in_memory`, what comes again with a second photograph at the same time.
    """

    in_memory: int
    in_bands: int
    disk: int
    photograph: int


@dataclass(frozen=True)
class Estimate:
    """What a run will take. `seconds`: None where no tile was timed."""

    tiles: int
    tiling: str
    way: Way
    memory: Memory
    seconds: float | None

    @property
    def host_bytes(self) -> int:
        """Of the way that will be taken."""
        return self.memory.in_memory if self.way == "memory" else self.memory.in_bands


# --- memory -----------------------------------------------------------------------------------------------


def memory_for(
    header: Header,
    request: RefineRequest,
    *,
    on_host: bool = True,
    coarse_peak: int = 0,
    map_pixels: int = 0,
) -> Memory:
    """Peak memory of refining a photograph as it is asked for.

    Args:
        on_host: the networks run in main memory; on a GPU, tiles and coarse passes take none of it.
        coarse_peak: bytes of the process during a pass of the coarse network, where it takes more than the shipped one.
        map_pixels: of a given map, which may be as large as the photograph.
    """
    pixels, rgb = header.pixels, header.rgb_bytes
    paper, sides = request.tiling.mode is not None, (header.height, header.width)
    largest = [math.ceil(side / PAPER_SPLIT) if paper else TILE_SIZES[0] for side in sides]
    rows, columns = (
        min(asked or most, side)
        for asked, most, side in zip(request.tiling.tile, largest, sides, strict=True)
    )
    working = _PROGRAM + (rows * columns * BYTES_PER_TILE_PIXEL if on_host else 0)
    reduced = _REDUCED_MAP * request.views
    compared = (_COMPARED if request.confidence else 0) + (_WEIGHT if paper else 0)
    # The second view is reduced beside the result of the first; the tiles come after both.
    most = max(_REDUCING + reduced - _REDUCED_MAP, reduced + _RESULT + compared)
    in_memory = max(header.decoding + rgb, working + rgb + pixels * most)
    held = round(rows * header.width * (_RESULT + compared) * _ROWS_HELD)
    in_bands = max(header.decoding_bands + _PROGRAM // 4, working + pixels * reduced + held)
    if on_host:  # the coarse pass comes before the tiles
        in_memory, in_bands = max(in_memory, coarse_peak + rgb), max(in_bands, coarse_peak)
    given = map_pixels * _GIVEN
    photograph = max(header.decoding + rgb, rgb + pixels * most)
    results = _RESULT * (2 if request.confidence else 1)
    disk = rgb + rgb // 4 * request.views + pixels * results
    return Memory(in_memory + given, in_bands + given, disk, photograph + given)


def fits_in_memory(memory: Memory, available: int | None = None) -> bool:
    """Whether a photograph can be refined without bands; `available`: bytes, by default what the machine has."""
    return memory.in_memory <= _SHARE * (available_host_memory() if available is None else available)


def choose_way(header: Header, memory: Memory, available: int | None = None) -> Way:
    """ "memory" where it fits, else "bands". Raises InputError with the figures where neither does."""
    available = available_host_memory() if available is None else available
    if fits_in_memory(memory, available):
        return "memory"
    if memory.in_bands <= _SHARE * available:
        return "bands"
    raise InputError(
        f"{header.name}: {header.width} x {header.height} needs {memory.in_memory / 1e9:.1f} GB of memory, "
        f"{memory.in_bands / 1e9:.1f} GB in bands, and {available / 1e9:.1f} GB are free. "
        f"{_fix(header, memory)}"
    )


def check_coarse_pass(refiner: Refiner, available: int | None = None) -> None:
    """Refuse a coarse network whose pass would not fit beside what this process holds already.

    Args:
        available: bytes of main memory, by default what the machine has.

    Raises:
        InputError: with the figures.
    """
    if refiner.device.type != "cpu" or refiner.coarse is None or not refiner.coarse_peak:
        return
    free = available_host_memory() if available is None else available
    name, peak = refiner.coarse.name, refiner.coarse_peak
    if peak - resident_memory() > free:
        raise InputError(
            f"{name} needs {peak / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. "
            "Close other programs, or use a smaller network with --coarse"
        )


def _fix(header: Header, memory: Memory) -> str:
    if header.decoding_bands * 2 > memory.in_bands:  # decoding is what takes it
        return f"A {header.kind} of this kind is decoded whole: save it as a TIFF with strips or tiles"
    return "Close other programs, use a smaller --tile, or make the photograph smaller"


# --- the whole run ----------------------------------------------------------------------------------------


def dry_run(
    refiner: Refiner,
    header: Header,
    request: RefineRequest,
    *,
    map_pixels: int = 0,
    exporting: Callable[[Memory], Memory] = lambda memory: memory,
    timed: bool = True,
    available: int | None = None,
) -> Estimate:
    """Tiles, memory and time of refining a photograph; `exporting`: what other files of the depth add to the memory.

    The time is that of one tile of noise on this device, measured here, times the tiles of both passes, plus a
    fixed share for each pixel that is read, shrunk and written. It is less where the pass at half size is not
    needed, or leaves no edges to the other, and on a GPU that takes several tiles at a time.

    Raises:
        UsageError: impossible options. InputError: it fits neither way.
    """
    full = refiner.plan(header.height, header.width, request.tiling)
    half = refiner.preparer.half_size_plan(header.height, header.width, request.tiling)
    refiner.check(request)
    request.check_plan(full)
    host = refiner.device.type == "cpu"
    tile = _tile_size(full)
    as_cut = replace(request, tiling=replace(request.tiling, tile=tile))
    peak = refiner.coarse_peak
    memory = exporting(memory_for(header, as_cut, on_host=host, coarse_peak=peak, map_pixels=map_pixels))
    # The models are loaded already, and count in the memory as they would in a run.
    free = available_host_memory() + resident_memory() if available is None else available
    way = choose_way(header, memory, free)
    seconds = None
    if timed:
        each = seconds_per_tile_pixel(refiner, tile)
        plans = [full] if half is None else [full, half]
        worked = sum(len(p.tiles) * _tile_size(p)[0] * _tile_size(p)[1] for p in plans)
        seconds = request.views * worked * each + header.pixels * _SECONDS_PER_PIXEL
    return Estimate(len(full.tiles) * request.views, full.description, way, memory, seconds)


def seconds_per_tile_pixel(refiner: Refiner, tile: tuple[int, int]) -> float:
    """How long the refiner takes for a pixel of a tile of this size: one tile of noise, after another to warm up."""
    noise = np.random.default_rng(0).integers(0, 256, (*tile, 3), dtype=np.uint8)
    given = None if refiner.bundle else np.ones(tile, np.float32)
    for _ in range(_WARM_UP):
        result = refiner.refine(noise, coarse_depth=given, tile=tile, batch_size=1)
    return result.seconds["tiles"] / (tile[0] * tile[1])


def _tile_size(plan: TilePlan) -> tuple[int, int]:
    first = plan.tiles[0]
    return first.rows.length, first.columns.length
