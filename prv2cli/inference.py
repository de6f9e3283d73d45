"""Refiner: a photograph as an array in, its depth as an array out. No files, no printing.

    photograph ─ coarse network (or a given depth map) ─ fill ─ normalised log-depth ─┐
         └─ tiles ─────────────── refiner, batch by batch ── blend ── metres <────────┘

The photograph and the result stay in main memory; only tiles travel to the device.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli import hub
from prv2cli.checkpoint import Checkpoint
from prv2cli.coarse_branch import CoarseDepth, CoarseNetwork, Kind, Unit, bundle_input
from prv2cli.coarse_map import check_aspect, edge_width, fill_holes, reduce_photograph, shrink
from prv2cli.config import BundleConfig, RefinerConfig
from prv2cli.devices import choose_device, choose_precision, free_memory
from prv2cli.errors import CheckpointError, DeviceError, InputError, UsageError
from prv2cli.loading import Scene, load_coarse, load_model
from prv2cli.model.coarse import CoarseOutput
from prv2cli.model.coarse.given import guide_size, to_guide
from prv2cli.model.layers import crop_to_boxes, resize
from prv2cli.model.normalise import MIN_METRES, LogNormalisation, PlainMetres
from prv2cli.model.patchrefiner import PatchRefiner
from prv2cli.paper import PaperSetup, refine_paper, to_process
from prv2cli.publish import push_to_hub, save_pretrained
from prv2cli.tiling import Blender, Tile, TilePlan, parse_mode, plan_paper_tiles, plan_tiles, seam_excess

logger = logging.getLogger("prv2cli")

# Large tiles waste less on overlap; the largest that memory allows is taken.
TILE_SIZES = (1024, 768, 512, 256)
DEFAULT_OVERLAP = 0.0625
MAX_OVERLAP = 0.5
BYTES_PER_TILE_PIXEL = 400  # activations of the shipped refiner in fp32: 320 measured, and some slack
MAX_BATCH = 16
REDUCED_PASSES = (2,)  # divisors of the photograph's size, before the pass at full size
WIDE_EDGES = 12.0  # pixels (standard deviation): a pass at full size does not reach across wider ones

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Depth:
    """The result for one photograph.

    Attributes:
        depth: (H, W) float32, > 0 everywhere, in `unit`: metres, or relative where the coarse depth had no unit.
        coarse: (h, w) float32, the coarse depth that was refined, holes filled.
        tiling: the tile plan in words. seam: how much steeper the map is across tile borders (0 = nothing to be seen).
        seconds: by part (coarse, reduced, tiles, fuse).
    """

    depth: np.ndarray
    coarse: np.ndarray
    tiling: str
    seam: float
    tiles: int
    batch_size: int
    device: str
    precision: str
    unit: Unit = "metre"
    seconds: dict[str, float] = field(default_factory=dict)


class TileSink(Protocol):
    """Where refined tiles go: tiling.Blender, or streaming.BandBlender."""

    plan: TilePlan

    def add(self, tile: Tile, values: np.ndarray) -> None:
        """Take one tile's (rows, columns) values."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A photograph before its tiles: `normalised` is what they refine, in the space of `scale`."""

    coarse: CoarseDepth
    scale: LogNormalisation | PlainMetres
    normalised: Tensor
    features: list[Tensor]


class Refiner:
    """A refiner with its coarse network, ready on a device.

    `Refiner.from_pretrained("refiner-s")(image).depth` is an (H, W) float32 array in metres.
    """

    def __init__(
        self,
        refiner: Checkpoint,
        coarse: CoarseNetwork | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        name: str = "refiner",
    ) -> None:
        """`coarse`: None when only given depth maps will be refined, and with a bundle, which has its own."""
        self.name, self.checkpoint = name, refiner
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self._bundle_coarse: nn.Module | None = None
        self.bundle = refiner.config if isinstance(refiner.config, BundleConfig) else None
        if self.bundle is not None:
            if coarse is not None:
                raise UsageError(f"{name} is a bundle: its refiner works with its own coarse network only")
            self._bundle_coarse = self._on_device(refiner.part("coarse"))
            refiner = refiner.part("refiner")
        if not isinstance(refiner.config, RefinerConfig):
            raise CheckpointError(
                f"a model of kind {refiner.config.kind} cannot refine; use it with --coarse"
            )
        if refiner.config.coarse.kind == "external" and self.bundle is None:
            raise CheckpointError(
                f"{refiner.name}: this refiner needs the features of the coarse network it was trained with, "
                "and holds none; convert the two together with: prv2 models convert"
            )
        self.config = refiner.config
        self.coarse = coarse
        self._refiner = self._on_device(refiner)

    def _on_device(self, checkpoint: Checkpoint) -> nn.Module:
        model: nn.Module = checkpoint.build().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "auto",
        *,
        coarse: str | Path | None = "auto",
        scene: Scene | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        offline: bool = False,
        device: str = "auto",
        precision: str = "auto",
    ) -> Refiner:
        """Load a refiner and its coarse network.

        Args:
            model: a registered name (`prv2 models list`), a path, a Hub repository `org/name`, or "auto".
            coarse: the same for the coarse network, or `hf:org/name` for any depth model of transformers. "auto" is
                the best registered one that is cached or can be downloaded, else the embedded one. None when only
                given depth maps will be refined. A bundle brings its own.
            scene: which metric coarse network "auto" takes.
            revision: of the model's Hub repository: a commit, a branch or a tag. offline: use the cache only.
            cache_dir: instead of the Hub's cache (HF_HUB_CACHE).

        Raises:
            UsageError: unknown name. CheckpointError: a file that is no model. DeviceError: no such device.
        """
        name = hub.DEFAULT_REFINER if model == "auto" else model
        source = hub.resolve(name, revision=revision, offline=offline, cache_dir=cache_dir)
        checkpoint = load_model(source)
        network = None
        if coarse is not None and not (coarse == "auto" and isinstance(checkpoint.config, BundleConfig)):
            if coarse == "auto":
                chosen = hub.auto_coarse(scene, offline=offline, cache_dir=cache_dir)
            else:
                chosen = hub.resolve(coarse, offline=offline, cache_dir=cache_dir)
            network = load_coarse(chosen, choose_device(device), scene)
        logger.info("refiner %s; coarse %s", source.name, network.name if network else "none of its own")
        return cls(checkpoint, network, device=device, precision=precision, name=source.name)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the refiner (of a bundle: both networks) and a model card to a folder; see publish.py."""
        return save_pretrained(self.checkpoint, folder, name=self.name)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the refiner (of a bundle: both networks) with a model card; returns the commit. See publish.py."""
        return push_to_hub(self.checkpoint, repo_id, private=private, token=token)

    def __call__(self, rgb: np.ndarray, **options: Any) -> Depth:
        """The same as refine()."""
        return self.refine(rgb, **options)

    @torch.inference_mode()
    def refine(
        self,
        rgb: np.ndarray,
        *,
        coarse_depth: np.ndarray | None = None,
        coarse_kind: Kind = "depth",
        coarse_unit: Unit = "metre",
        focal_px: float | None = None,
        tile: tuple[int, int] | int = 0,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 0,
        mode: str | None = None,
        seed: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> Depth:
        """Depth of one photograph at its full size.

        Args:
            rgb: (H, W, 3) uint8 or uint16, sRGB, upright.
            coarse_depth: (h, w) depth to refine instead of running the coarse network, any size of the photograph's
                aspect; 0, negative, NaN and infinite pixels are holes. With coarse_kind="inverse" it is 1/depth.
            focal_px: focal length in pixels of this photograph, for the coarse networks that use it.
            tile: rows, columns (or one number for both); 0 = chosen here. overlap: share of a tile, 0..0.5.
            batch_size: tiles at a time; 0 = from the free memory.
            mode: None = our overlapped grid; "m1", "m2", "rN" = the paper's tilings.
            seed: of the random tiles of rN.

        Returns:
            Depth; `depth` is depth (never inverse), in the unit of the coarse map.

        Raises:
            InputError: a coarse map without any valid pixel or of another aspect. UsageError: impossible options.
        """
        _check_photograph(rgb)
        height, width = rgb.shape[:2]
        plan = plan_photograph(
            self.config,
            height,
            width,
            tile=tile or self._own_tile,
            overlap=overlap,
            mode=mode,
            seed=seed,
            largest=self._choose_tile(),
        )
        seconds: dict[str, float] = {}
        ready = self.prepare(
            rgb,
            coarse_depth,
            coarse_kind,
            coarse_unit,
            focal_px,
            tile=tile,
            batch_size=batch_size,
            seconds=seconds,
        )
        with timed(seconds, "tiles"):
            if self.bundle and mode is not None:
                refined, batch = self._refine_as_the_authors(rgb, mode, seed), 1
            else:
                blender = Blender(plan)
                batch = self.refine_into(blender, rgb, ready, batch_size, progress)
                refined = blender.result()
        with timed(seconds, "fuse"):
            seam = seam_excess(refined, plan, floor=ready.scale.floor)
            depth = ready.scale.decode_in_place(refined)
        return self.finished(depth, ready.coarse, plan, seam, batch, seconds)

    def prepare(
        self,
        rgb: np.ndarray,
        coarse_depth: np.ndarray | None,
        coarse_kind: Kind,
        coarse_unit: Unit,
        focal_px: float | None,
        *,
        tile: tuple[int, int] | int,
        batch_size: int,
        seconds: dict[str, float],
    ) -> Prepared:
        """What comes before the tiles: coarse depth, guidance, the passes at reduced size. Adds to `seconds`."""
        with timed(seconds, "coarse"):
            coarse = self._coarse_depth(rgb, coarse_depth, coarse_kind, coarse_unit, focal_px)
            scale = self._space.of(coarse.values)
            ready = Prepared(coarse, scale, scale.encode(coarse.values), coarse.features)
            if not self.bundle:
                ready = replace(ready, features=self._encode_image(rgb, ready.normalised))
        with timed(seconds, "reduced"):
            for divisor in self._reduced_sizes(rgb, ready.normalised):
                ready = replace(ready, normalised=self._reduced_pass(divisor, rgb, ready, tile, batch_size))
        return ready

    def finished(
        self,
        depth: np.ndarray,
        coarse: CoarseDepth,
        plan: TilePlan,
        seam: float,
        batch: int,
        seconds: dict[str, float],
    ) -> Depth:
        """The result, with all that is known of the run."""
        return Depth(
            depth=depth,
            coarse=coarse.values[0, 0].numpy(),
            tiling=plan.description,
            seam=seam,
            tiles=len(plan.tiles),
            batch_size=batch,
            device=str(self.device),
            precision=str(self.dtype).removeprefix("torch."),
            unit=coarse.unit,
            seconds=seconds,
        )

    @property
    def _space(self) -> type[LogNormalisation] | type[PlainMetres]:
        return LogNormalisation if self.config.depth_space == "normalised-log" else PlainMetres

    def _choose_tile(self) -> int:
        """The largest tile that takes at most half of the free memory."""
        pixels = free_memory(self.device) // 2 // BYTES_PER_TILE_PIXEL
        return next((size for size in TILE_SIZES if size * size <= pixels), TILE_SIZES[-1])

    @property
    def _own_tile(self) -> tuple[int, int] | int:
        """The tile size a bundle was trained at; 0 where any will do."""
        return self.bundle.process_size if self.bundle else 0

    def _coarse_depth(
        self, rgb: np.ndarray, given: np.ndarray | None, kind: Kind, unit: Unit, focal_px: float | None
    ) -> CoarseDepth:
        """The coarse depth (never inverse), finite and > 0, with the features of a bundle's network."""
        if self.bundle is not None:
            if given is not None:
                raise UsageError(f"--coarse-depth: {self.name} is a bundle and refines its own depth only")
            return self._run_bundle_coarse(bundle_input(rgb, self.bundle))
        if given is not None:
            check_aspect(given.shape, rgb.shape[:2])
            coarse = CoarseDepth(torch.from_numpy(np.array(given, dtype=np.float32))[None, None], kind, unit)
        elif self.coarse is not None:
            coarse = self.coarse.predict(rgb, focal_px)
        else:
            raise UsageError("no coarse network was loaded: give a coarse depth map (--coarse-depth FILE)")
        return CoarseDepth(_positive_depth(coarse), unit=coarse.unit)

    def _run_bundle_coarse(self, image: Tensor) -> CoarseDepth:
        assert self._bundle_coarse is not None
        output: CoarseOutput = self._bundle_coarse(image.to(self.device))
        return CoarseDepth(output.depth.float().cpu().clamp_min(MIN_METRES), features=output.features)

    @property
    def _process_size(self) -> tuple[int, int]:
        assert self.bundle is not None
        return self.bundle.process_size

    def _refine_as_the_authors(self, rgb: np.ndarray, mode: str, seed: int) -> np.ndarray:
        """(H, W) metres of a bundle in the exact tiling of the paper (paper.py), brought to the photograph's size."""
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / np.iinfo(rgb.dtype).max
        coarse = self._run_bundle_coarse(to_process(image, self._process_size))
        output = CoarseOutput(coarse.values.to(self.device), coarse.features)
        setup = PaperSetup(self._process_size)
        depth = refine_paper(
            self._patch_refiner, image.to(self.device), output, setup, mode, random.Random(seed)
        )
        return resize(depth, rgb.shape[:2], True)[0, 0].numpy()

    def _encode_image(self, rgb: np.ndarray, normalised: Tensor) -> list[Tensor]:
        settings = self.config.coarse
        height, width = rgb.shape[:2]
        size = guide_size(height, width, settings.guide_stride, settings.guide_max_side)
        guide_rgb, guide_depth = shrink(rgb, size), to_guide(normalised, size)
        refiner = self._patch_refiner
        return refiner.encode_image(guide_rgb.to(self.device), guide_depth.to(self.device))

    @property
    def _patch_refiner(self) -> PatchRefiner:
        assert isinstance(self._refiner, PatchRefiner)
        return self._refiner

    def _reduced_sizes(self, rgb: np.ndarray, normalised: Tensor) -> tuple[int, ...]:
        """Divisors of the photograph's size for the passes before the one at full size, where edges are wide.

        A wide blur is out of reach for one pass at full size; at half size it is half as wide and costs a quarter.
        Where the coarse map is sharper than that, a pass more would only add its own errors.
        """
        if self.bundle:
            return ()
        height, width = rgb.shape[:2]
        settings = self.config.coarse
        size = guide_size(height, width, settings.guide_stride, settings.guide_max_side)
        pixels = max(height, width) / max(size)
        if pixels * edge_width(to_guide(normalised, size)) <= WIDE_EDGES:
            return ()
        smallest = self.config.tile_multiple
        return tuple(divisor for divisor in REDUCED_PASSES if min(height, width) // divisor >= smallest)

    def _reduced_pass(
        self, divisor: int, rgb: np.ndarray, ready: Prepared, tile: tuple[int, int] | int, batch_size: int
    ) -> Tensor:
        """Refine at 1/divisor of the size: (1, 1, h, w) normalised log-depth, the coarse map of the next pass."""
        height, width = (side // divisor for side in rgb.shape[:2])
        small = reduce_photograph(rgb, (height, width))
        plan = plan_photograph(self.config, height, width, tile=tile, largest=self._choose_tile())
        blender = Blender(plan)
        self.refine_into(blender, small, ready, batch_size, lambda done, total: None)
        return torch.from_numpy(blender.result())[None, None]

    def refine_into(
        self, blender: TileSink, rgb: np.ndarray, ready: Prepared, batch_size: int, progress: Progress
    ) -> int:
        """Refine every tile of the blender's plan into it; returns the batch size that went through."""
        plan = blender.plan
        batch = batch_size or self._choose_batch(plan)
        on_device = ready.normalised.to(self.device)
        done, total = 0, len(plan.tiles)
        while done < total:
            tiles = plan.tiles[done : done + batch]
            try:
                values = self._refine_batch(rgb, on_device, ready.features, tiles, plan)
            except torch.OutOfMemoryError as error:
                batch = self._smaller_batch(batch, tiles[0], error)
                continue
            for tile, value in zip(tiles, values, strict=True):
                blender.add(tile, value)
            done += len(tiles)
            progress(done, total)
        return batch

    def _choose_batch(self, plan: TilePlan) -> int:
        """On the CPU one tile fills the cores; on a device as many as half of the free memory holds."""
        if self.device.type == "cpu":
            return 1
        first = plan.tiles[0]
        needed = first.rows.length * first.columns.length * BYTES_PER_TILE_PIXEL
        return int(max(1, min(MAX_BATCH, free_memory(self.device) // 2 // needed)))

    def _smaller_batch(self, batch: int, tile: Tile, error: Exception) -> int:
        if batch == 1:
            raise DeviceError(
                f"{self.device} has too little memory for one tile of {tile.rows.length}x{tile.columns.length}; "
                f"use a smaller --tile, or --device cpu"
            ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if not getattr(self, "_said_out_of_memory", False):
            self._said_out_of_memory = True
            logger.warning(
                "%s ran out of memory at %d tiles at a time; going on with fewer", self.device, batch
            )
        return batch // 2

    def _refine_batch(
        self,
        rgb: np.ndarray,
        normalised: Tensor,
        features: list[Tensor],
        tiles: Sequence[Tile],
        plan: TilePlan,
    ) -> np.ndarray:
        """(B, rows, columns) float32 refined normalised log-depth of a batch of tiles of one size."""
        pixels = torch.from_numpy(np.stack([_cut(rgb, tile) for tile in tiles])).to(self.device)
        scale = 255.0 if rgb.dtype == np.uint8 else 65535.0
        batch = pixels.permute(0, 3, 1, 2).float().div_(scale)  # channels_last as it was cut
        boxes = torch.tensor([tile.box(plan.height, plan.width) for tile in tiles], device=self.device)
        index = torch.zeros(len(tiles), dtype=torch.long, device=self.device)
        coarse = crop_to_boxes(normalised, boxes, index, batch.shape[-2:])
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            refined = self._patch_refiner.refine_tiles(batch, coarse, features, boxes, index)
        return refined[:, 0].float().cpu().numpy()


def _positive_depth(coarse: CoarseDepth) -> Tensor:
    """(1, 1, h, w) depth, finite and > 0, holes filled. Raises InputError when no pixel is valid."""
    values = coarse.values
    valid = torch.isfinite(values) & (values > 0)
    if not valid.any():
        raise InputError("the coarse depth map has no valid pixel (all are 0, negative, NaN or infinite)")
    if coarse.kind == "inverse":
        values = torch.where(valid, 1 / values, values)
    return fill_holes(values, valid)


def _check_photograph(rgb: np.ndarray) -> None:
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


def _cut(rgb: np.ndarray, tile: Tile) -> np.ndarray:
    """The tile's (rows, columns, 3) pixels; beyond the image the border is repeated."""
    rows, columns = tile.rows, tile.columns
    part = rgb[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
    below, right = rows.length - part.shape[0], columns.length - part.shape[1]
    return np.pad(part, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else part


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Any:
    start = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - start
