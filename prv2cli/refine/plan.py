"""How a photograph goes through a refiner: the sizes and overlaps of its tiles, how many times. No model, no torch."""

from __future__ import annotations

from typing import Literal

import numpy as np

from prv2cli.errors import InputError, UsageError
from prv2cli.model.config import RefinerConfig
from prv2cli.tiling.plan import TilePlan, overlaps, parse_mode, plan_paper_tiles, plan_tiles

# Large tiles waste less on overlap; the largest that memory allows is taken.
TILE_SIZES = (1024, 768, 512, 256)
DEFAULT_OVERLAP = 0.0625
MAX_OVERLAP = 0.5

Tta = Literal["auto", "none", "flip"]


def check_photograph(rgb: np.ndarray) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype not in (np.uint8, np.uint16):
        raise InputError(f"the photograph must be (H, W, 3) uint8 or uint16, not {rgb.shape} {rgb.dtype}")
    if 0 in rgb.shape:
        raise InputError(f"the photograph is empty: {rgb.shape[1]} x {rgb.shape[0]} pixels")


def plan_photograph(
    config: RefinerConfig,
    height: int,
    width: int,
    *,
    tile: tuple[int, int] | int = 0,
    overlap: float = DEFAULT_OVERLAP,
    mode: str | None = None,
    seed: int = 0,
    largest: int = TILE_SIZES[0],
) -> TilePlan:
    """The tiles of a photograph of this size: arguments as in Refiner.refine. Raises UsageError.

    `largest`: the longest side of a tile where `tile` leaves the choice.
    """
    multiple = config.tile_multiple
    kind, _ = parse_mode(mode)
    if kind != "grid":
        return plan_paper_tiles(height, width, mode or "", seed, multiple)
    rows, columns = (tile, tile) if isinstance(tile, int) else tile
    for side in (rows, columns):
        if side < 0 or side % multiple:
            fix = max(multiple, round(side / multiple) * multiple)
            raise UsageError(
                f"--tile {side}: must be a multiple of {multiple}; use {fix}, or 0 to let prv2 choose"
            )
    if not 0 <= overlap <= MAX_OVERLAP:
        raise UsageError(f"--overlap {overlap:g}: must lie between 0 and {MAX_OVERLAP}")
    return plan_tiles(height, width, (rows or largest, columns or largest), overlap, multiple)


def flips(tta: Tta, confidence: bool) -> bool:
    """Whether there is a mirrored pass: what "auto" means. Raises UsageError for another word."""
    if tta not in ("auto", "none", "flip"):
        raise UsageError(f"--tta {tta}: use flip, none or auto")
    return tta == "flip" or (tta == "auto" and confidence)


def check_passes(
    plan: TilePlan, mode: str | None, tta: Tta, confidence: bool, *, bundle: bool = False
) -> bool:
    """flips(), where what is asked for can be had. Raises UsageError.

    Args:
        plan, mode: the tiles, and the paper's tiling that they are, if any. bundle: they are a bundle's.
    """
    flip = flips(tta, confidence)
    if confidence and not flip and not overlaps(plan):
        raise UsageError(
            f"--confidence with --tta none compares tiles that overlap, and none do ({plan.description}); "
            "use --tta flip, or --overlap 0.5 with a smaller --tile"
        )
    check_authors_tiling(mode, flip or confidence, bundle=bundle)
    return flip


def check_authors_tiling(mode: str | None, compared: bool, *, bundle: bool) -> None:
    """Refuse a bundle's `mode` where predictions are to be `compared` or averaged. Raises UsageError."""
    if bundle and mode is not None and compared:
        raise UsageError(
            f"--mode {mode} of a bundle is the authors' own tiling, which has neither --tta nor --confidence; "
            "leave --mode out"
        )
