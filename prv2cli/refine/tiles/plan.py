"""Which tiles a photograph gets from a model on a device: the one place where that is decided. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prv2cli.errors import UsageError
from prv2cli.machine.devices import free_memory
from prv2cli.model.config import BundleConfig, RefinerConfig
from prv2cli.refine.request import DEFAULT_OVERLAP, Tiling
from prv2cli.tiling.plan import TilePlan, plan_paper_tiles, plan_tiles

if TYPE_CHECKING:
    import torch

# Large tiles waste less on overlap; the largest that memory allows is taken.
TILE_SIZES = (1024, 768, 512, 256)
BYTES_PER_TILE_PIXEL = 400  # activations of the shipped refiner in fp32: 320 measured, and some slack


def plan_photograph(
    model: RefinerConfig | BundleConfig,
    height: int,
    width: int,
    tiling: Tiling,
    *,
    largest: int = TILE_SIZES[0],
) -> TilePlan:
    """The tiles of a photograph of this size.

    A bundle is used at the tile size that it was trained at, where no other is asked for.

    Args:
        largest: the longest side of a tile where neither `tiling` nor the model decides.

    Raises:
        UsageError: a tile size that the model cannot have.
    """
    own = model.process_size if isinstance(model, BundleConfig) else (0, 0)
    multiple = _multiple_of(model)
    if tiling.mode is not None:
        return plan_paper_tiles(height, width, tiling.mode, tiling.seed, multiple)
    check_tile(model, tiling)
    rows, columns = tiling.tile if any(tiling.tile) else own
    overlap = DEFAULT_OVERLAP if tiling.overlap is None else tiling.overlap
    return plan_tiles(height, width, (rows or largest, columns or largest), overlap, multiple)


def check_tile(model: RefinerConfig | BundleConfig, tiling: Tiling) -> None:
    """Raises UsageError for a tile size that the model cannot have."""
    multiple = _multiple_of(model)
    for side in () if tiling.mode is not None else tiling.tile:
        if side % multiple:
            fix = max(multiple, round(side / multiple) * multiple)
            raise UsageError(
                f"--tile {side}: must be a multiple of {multiple}; use {fix}, or 0 to let prv2 choose"
            )


def _multiple_of(model: RefinerConfig | BundleConfig) -> int:
    return (model.refiner if isinstance(model, BundleConfig) else model).tile_multiple


def largest_tile(device: torch.device) -> int:
    """The side of the largest tile that takes at most half of the device's free memory."""
    pixels = free_memory(device) // 2 // BYTES_PER_TILE_PIXEL
    return next((size for size in TILE_SIZES if size * size <= pixels), TILE_SIZES[-1])
