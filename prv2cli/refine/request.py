"""What is asked for: one validated object from the flags or keywords down to the tiles. No model, no torch.

flags or keywords ─ RefineRequest (Tiling, passes, batch) ─┐
photographs ─────── Subject (pixels, focal length, map) ───┴─ Refiner.run
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from prv2cli.choices import FocalOrigin, Kind, Scene, Tta, Unit
from prv2cli.errors import InputError, UsageError
from prv2cli.files.disk_array import DiskArray
from prv2cli.tiling.plan import TilePlan, overlaps, parse_mode

DEFAULT_OVERLAP = 0.0625
MAX_OVERLAP = 0.5


@dataclass(frozen=True)
class Tiling:
    """How a photograph is cut.

    Attributes:
        tile: rows, columns of the largest tile; 0 = chosen by the model and the free memory.
        overlap: share of a tile that neighbours have in common, 0..0.5; None = the default.
        mode: None = one overlapped grid; "m1", "m2", "rN" = the paper's tilings.
        seed: of the random tiles of rN.

    Raises:
        UsageError: values that no photograph and no model could be cut with.
    """

    tile: tuple[int, int] = (0, 0)
    overlap: float | None = None
    mode: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        parse_mode(self.mode)
        for side in self.tile:
            if side < 0:
                raise UsageError(f"--tile {side}: must be positive, or 0 to let prv2 choose")
        if self.overlap is not None and not 0 <= self.overlap <= MAX_OVERLAP:
            raise UsageError(f"--overlap {self.overlap:g}: must lie between 0 and {MAX_OVERLAP}")

    def identity(self) -> dict[str, Any]:
        """What tells two tilings apart, as JSON: the record of a batch knows it in this form and no other."""
        known: dict[str, Any] = {"tile": self.tile, "mode": self.mode, "seed": self.seed}
        return known if self.overlap is None else {**known, "overlap": self.overlap}


@dataclass(frozen=True)
class RefineRequest:
    """What is to be done with each of one or several photographs.

    Attributes:
        tiling: see Tiling.
        batch_size: tiles at a time; 0 = from the free memory. It decides about float32's rounding and nothing else.
        tta: "flip" refines the mirrored photograph too and takes the mean, at twice the time. "auto" does so where
            the confidence is asked for: without it, only pixels in overlaps have two predictions.
        confidence: also tell where the predictions of a pixel agree.
        focal_px: focal length in pixels, in place of what a photograph says of itself.
    """

    tiling: Tiling = field(default_factory=Tiling)
    batch_size: int = 0
    tta: Tta = "auto"
    confidence: bool = False
    focal_px: float | None = None

    def __post_init__(self) -> None:
        if self.tta not in ("auto", "none", "flip"):
            raise UsageError(f"--tta {self.tta}: use flip, none or auto")
        if self.batch_size < 0:
            raise UsageError(f"--batch-size {self.batch_size}: it must be 0 (from the free memory) or more")
        if self.focal_px is not None and not 0 < self.focal_px < math.inf:
            raise UsageError(f"--focal-px {self.focal_px}: it must be a positive number of pixels")

    @classmethod
    def of(
        cls,
        *,
        tile: tuple[int, int] | int = 0,
        overlap: float | None = None,
        batch_size: int = 0,
        mode: str | None = None,
        seed: int = 0,
        tta: Tta = "auto",
        confidence: bool = False,
        focal_px: float | None = None,
    ) -> RefineRequest:
        """From keywords; `tile`: one number for both sides will do."""
        rows, columns = (tile, tile) if isinstance(tile, int) else tile
        return cls(Tiling((rows, columns), overlap, mode, seed), batch_size, tta, confidence, focal_px)

    @property
    def flip(self) -> bool:
        """Whether the mirrored photograph is refined too."""
        return self.tta == "flip" or (self.tta == "auto" and self.confidence)

    @property
    def views(self) -> int:
        """How often each photograph goes through the refiner."""
        return 2 if self.flip else 1

    def check_plan(self, plan: TilePlan) -> None:
        """Refuse a confidence that the tiles of a plan cannot give. Raises UsageError."""
        if self.confidence and not self.flip and not overlaps(plan):
            raise UsageError(
                f"--confidence with --tta none compares tiles that overlap, and none do ({plan.description}); "
                "use --tta flip, or --overlap 0.5 with a smaller --tile"
            )

    def check_bundle(self) -> None:
        """Refuse what the authors' own tiling, which a bundle's `mode` is, does not have. Raises UsageError."""
        if self.tiling.mode is not None and (self.flip or self.confidence):
            raise UsageError(
                f"--mode {self.tiling.mode} of a bundle is the authors' own tiling, which has neither --tta nor "
                "--confidence; leave --mode out"
            )

    def check_on_disk(self) -> None:
        """Refuse what needs the whole photograph in memory. Raises UsageError."""
        if self.tiling.mode is not None:
            raise UsageError(
                f"--mode {self.tiling.mode}: the paper's tiles are a sixteenth of the photograph, too large to work "
                "in bands; leave --mode out"
            )


@dataclass(frozen=True)
class Models:
    """Which networks do it, and on what: see Refiner.from_pretrained."""

    model: str | Path = "auto"
    coarse: str | Path | None = "auto"
    scene: Scene | None = None
    revision: str | None = None
    offline: bool = False
    device: str = "auto"
    precision: str = "auto"
    prompted: bool = False  # the coarse network gets the given depth map as its prompt
    trusting: bool = False  # metres are called so however much the coarse network doubts them


@dataclass(frozen=True, eq=False)
class GivenDepth:
    """A depth map to refine in place of a coarse network's.

    Attributes:
        values: (h, w), of the photograph's aspect; what is not finite is a hole, in metres also what is not above 0.
        kind: "inverse" where it holds 1/depth. unit: metres (1/metres), or relative; see coarse/given.py.
        half_step: how far a stored value may be from the true one, where it was stored in few steps.
        focal: the focal length that the map's file states, in widths of the map, and who had said it.
        stretched: it covers the whole photograph whatever its aspect. keep_holes: they stay holes in the result.
        estimated: a coarse network made it for this photograph: nobody has to tell from it what it is.
        origin: what it is, and sha256: of the file that it is from, for the metadata of the result.
        notes: what a reader must know of it.
    """

    values: np.ndarray
    kind: Kind = "depth"
    unit: Unit = "metre"
    half_step: float = 0.0
    stretched: bool = False
    keep_holes: bool = False
    estimated: bool = False
    focal: tuple[float, FocalOrigin | None] | None = None
    origin: str = "a given map"
    sha256: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, words in (("kind", self.kind, get_args(Kind)), ("unit", self.unit, get_args(Unit))):
            if value not in words:
                raise UsageError(f"coarse_{name} {value!r}: use {' or '.join(words)}")


@dataclass(frozen=True, eq=False)
class Subject:
    """A photograph and what is known of it.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16, sRGB, upright; in memory or on disk.
        focal_px: focal length in pixels that it states. given: a depth map of it, to be refined.

    Raises:
        InputError: pixels of another shape or type.
    """

    rgb: np.ndarray | DiskArray
    focal_px: float | None = None
    given: GivenDepth | None = None

    def __post_init__(self) -> None:
        rgb = self.rgb
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype not in (np.uint8, np.uint16):
            raise InputError(f"the photograph must be (H, W, 3) uint8 or uint16, not {rgb.shape} {rgb.dtype}")
        if 0 in rgb.shape:
            raise InputError(f"the photograph is empty: {rgb.shape[1]} x {rgb.shape[0]} pixels")

    @property
    def focal_of_map(self) -> tuple[float, FocalOrigin | None] | None:
        """The focal length that the given map's file states, in pixels of the photograph, and who had said it."""
        if self.given is None or self.given.focal is None:
            return None
        return self.given.focal[0] * self.size[1], self.given.focal[1]

    @property
    def on_disk(self) -> bool:
        """Whether it does not fit in memory: then its depth does not either."""
        return isinstance(self.rgb, DiskArray)

    @property
    def size(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.rgb.shape[0], self.rgb.shape[1]
