"""What a photograph will take, told from its header: tiles, memory, disk, time. torch is needed for the time only.

    read_header ─ Header ─ memory_for ─ Memory ─ choose_way ─ "memory" | "bands" | InputError with the figures
                      └─── dry_run ──── Estimate

The figures per pixel are what the code allocates, counted at its worst moment and checked by measurement
(benchmarks/giant.py); the fixed ones are measured on Linux.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prv2cli.errors import InputError
from prv2cli.machine.memory import available_host_memory
from prv2cli.photo.header import Header

if TYPE_CHECKING:
    from prv2cli.refine.plan import Tta
    from prv2cli.refine.refiner import Refiner
    from prv2cli.tiling.plan import TilePlan

Way = Literal["memory", "bands"]

_PROGRAM = 800_000_000  # torch, the shipped networks, one coarse pass
_PER_TILE_PIXEL = 400  # as tile_loop.BYTES_PER_TILE_PIXEL
_DEFAULT_TILE = (1024, 1024)
_REDUCING = 10  # bytes a pixel, beside the photograph, while it is brought to half size
_REDUCED_MAP = 1  # the result of the pass at half size: float32 for every fourth pixel
_RESULT = 4
_COMPARED = 8  # the smallest and the largest prediction of each pixel, for the confidence
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
    tile: tuple[int, int] = (0, 0),
    *,
    on_host: bool = True,
    tta: Tta = "auto",
    confidence: bool = False,
) -> Memory:
    """Peak memory of refining a photograph, with tiles of at most `tile` (rows, columns; 0 = the largest chosen).

    `on_host`: the networks run in main memory; on a GPU, tiles take none of it. `tta`, `confidence`: as in
    Refiner.refine.
    """
    from prv2cli.refine.plan import flips

    pixels, rgb = header.pixels, header.rgb_bytes
    rows = min(tile[0] or _DEFAULT_TILE[0], header.height)
    columns = min(tile[1] or _DEFAULT_TILE[1], header.width)
    working = _PROGRAM + (rows * columns * _PER_TILE_PIXEL if on_host else 0)
    views = 2 if flips(tta, confidence) else 1
    reduced = _REDUCED_MAP * views
    compared = _COMPARED if confidence else 0
    # The second view is reduced beside the result of the first; the tiles come after both.
    most = max(_REDUCING + reduced - _REDUCED_MAP, reduced + _RESULT + compared)
    in_memory = max(header.decoding + rgb, working + rgb + pixels * most)
    held = round(rows * header.width * (_RESULT + compared) * _ROWS_HELD)
    in_bands = max(header.decoding_bands + _PROGRAM // 4, working + pixels * reduced + held)
    photograph = max(header.decoding + rgb, rgb + pixels * most)
    results = _RESULT * (2 if confidence else 1)
    return Memory(in_memory, in_bands, rgb + rgb // 4 * views + pixels * results, photograph)


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


def _fix(header: Header, memory: Memory) -> str:
    if header.decoding_bands * 2 > memory.in_bands:  # decoding is what takes it
        return f"A {header.kind} of this kind is decoded whole: save it as a TIFF with strips or tiles"
    return "Close other programs, use a smaller --tile, or make the photograph smaller"


# --- the whole run ----------------------------------------------------------------------------------------


def dry_run(
    refiner: Refiner,
    header: Header,
    *,
    tile: tuple[int, int] | int = 0,
    overlap: float | None = None,
    mode: str | None = None,
    seed: int = 0,
    tta: Tta = "auto",
    confidence: bool = False,
    timed: bool = True,
    available: int | None = None,
) -> Estimate:
    """Tiles, memory and time of refining a photograph with these options of Refiner.refine.

    The time is that of one tile of noise on this device, measured here, times the tiles of both passes, plus a
    fixed share for each pixel that is read, shrunk and written. It is less where the pass at half size is not
    needed, and on a GPU that takes several tiles at a time.

    Raises:
        UsageError: impossible options. InputError: it fits neither way.
    """
    from prv2cli.refine.plan import DEFAULT_OVERLAP, check_passes, plan_photograph
    from prv2cli.refine.refiner import REDUCED_PASSES

    def plan(divisor: int, **options: Any) -> TilePlan:
        size = tile or (refiner.bundle.process_size if refiner.bundle else 0)
        return plan_photograph(
            refiner.config,
            header.height // divisor,
            header.width // divisor,
            tile=size,
            largest=refiner._choose_tile(),
            **options,
        )

    full = plan(1, overlap=DEFAULT_OVERLAP if overlap is None else overlap, mode=mode, seed=seed)
    smallest, shorter = refiner.config.tile_multiple, min(header.height, header.width)
    divisors = [d for d in (() if refiner.bundle else REDUCED_PASSES) if shorter // d >= smallest]
    plans = [full, *map(plan, divisors)]
    flip = check_passes(full, mode, tta, confidence, bundle=refiner.bundle is not None)
    passes = 2 if flip else 1
    host = refiner.device.type == "cpu"
    memory = memory_for(header, _tile_size(full), on_host=host, tta=tta, confidence=confidence)
    way = choose_way(header, memory, available)
    seconds = None
    if timed:
        each = seconds_per_tile_pixel(refiner, _tile_size(full))
        worked = sum(len(p.tiles) * _tile_size(p)[0] * _tile_size(p)[1] for p in plans)
        seconds = passes * worked * each + header.pixels * _SECONDS_PER_PIXEL
    return Estimate(len(full.tiles) * passes, full.description, way, memory, seconds)


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
