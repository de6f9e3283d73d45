"""What several commands check in the same way, before torch is imported."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any


class TtaName(str, Enum):
    auto = "auto"
    none = "none"
    flip = "flip"


if TYPE_CHECKING:
    from prv2cli.cli.ui import SceneName


def check_tiling(tile: str, overlap: float | None, mode: str | None, seed: int) -> dict[str, Any]:
    """How the photograph is cut, as arguments of Refiner.refine. Its own overlap where none is asked for."""
    from prv2cli.errors import UsageError
    from prv2cli.tiling import parse_mode

    parse_mode(mode)
    if mode is not None and (overlap is not None or _parse_tile(tile) != (0, 0)):
        raise UsageError("--mode has tiles of its own; leave out --tile and --overlap")
    tiling = {"tile": _parse_tile(tile), "mode": mode, "seed": seed}
    return tiling if overlap is None else {**tiling, "overlap": overlap}


def _parse_tile(text: str) -> tuple[int, int]:
    from prv2cli.errors import UsageError

    rows, _, columns = text.lower().partition("x")
    try:
        return int(rows), int(columns or rows)
    except ValueError as error:
        raise UsageError(f"--tile {text}: write rows or rows x columns, e.g. 512 or 512x768") from error


def check_models(
    model: str,
    coarse: str,
    coarse_depth: Path | None,
    device: str,
    precision: str,
    *,
    scene: SceneName | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> dict[str, Any]:
    """Which models, as arguments of Refiner.from_pretrained; no coarse network where a map is given instead."""
    from prv2cli import hub
    from prv2cli.devices import check_names
    from prv2cli.errors import UsageError

    if coarse != "auto" and coarse_depth is not None:
        raise UsageError("--coarse and --coarse-depth exclude each other: a network, or a map of your own")
    check_names(device, precision)
    for wanted in (model, coarse):
        if wanted != "auto":
            hub.check(wanted)
    return {
        "model": model,
        "coarse": None if coarse_depth is not None else coarse,
        "scene": scene.value if scene else None,
        "revision": revision,
        "offline": offline,
    }
