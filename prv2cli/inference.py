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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli import hub
from prv2cli.checkpoint import Checkpoint
from prv2cli.coarse_branch import CoarseDepth, CoarseNetwork, Kind, Unit
from prv2cli.coarse_map import check_aspect, edge_width, fill_holes, reduce_photograph, shrink
from prv2cli.config import BundleConfig, RefinerConfig
from prv2cli.devices import choose_device, choose_precision, free_memory
from prv2cli.disagreement import to_confidence
from prv2cli.errors import CheckpointError, DeviceError, InputError, UsageError
from prv2cli.loading import Scene, load_coarse, load_model
from prv2cli.model.coarse import CoarseOutput
from prv2cli.model.coarse.given import guide_size, to_guide
from prv2cli.model.layers import crop_to_boxes, resize
from prv2cli.model.normalise import MIN_METRES, LogNormalisation, PlainMetres
from prv2cli.model.patchrefiner import PatchRefiner
from prv2cli.paper import PaperSetup, refine_paper, to_process
from prv2cli.passes import Prepared, TileSink, Tta, View, check_comparable, flips, in_turn, mirror
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
        confidence: (H, W) float32 in (0, 1], NaN where it is not known (disagreement.FORMULA); None if not asked for.
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
    tta: str | None = None  # "flip": the mean of the photograph and its mirror image
    confidence: np.ndarray | None = None
    seconds: dict[str, float] = field(default_factory=dict)


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
        tta: Tta = "auto",
        confidence: bool = False,
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
            tta: "flip" refines the mirrored photograph too and takes the mean, at twice the time. "auto" does so
                where the confidence is asked for: without it, only pixels in overlaps have two predictions.
            confidence: also tell where the predictions of a pixel agree.

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
        flip = flips(tta, confidence)
        if confidence:
            check_comparable(plan, flip)
        as_the_authors = self.bundle is not None and mode is not None
        if as_the_authors and (flip or confidence):
            raise UsageError(
                f"--mode {mode} of a bundle is the authors' own tiling, which has neither --tta nor --confidence; "
                "leave --mode out"
            )
        seconds: dict[str, float] = {}
        views = self.views(
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
        ready = views[0].ready
        with timed(seconds, "tiles"):
            if as_the_authors:
                refined, batch = self._refine_as_the_authors(rgb, mode or "", seed), 1
            else:
                blender = Blender(plan, passes=len(views), compare=confidence)
                batch = self.refine_into(blender, views, batch_size, progress)
                refined = blender.result()
        with timed(seconds, "fuse"):
            seam = seam_excess(refined, plan, floor=ready.scale.floor)
            depth = ready.scale.decode_in_place(refined)
            certain = None
            if confidence:
                certain = to_confidence(ready.scale.relative_in_place(blender.disagreement(), depth))
        return self.finished(depth, ready.coarse, plan, seam, batch, seconds, flip=flip, confidence=certain)

    def views(
        self,
        rgb: Any,
        coarse_depth: np.ndarray | None,
        coarse_kind: Kind,
        coarse_unit: Unit,
        focal_px: float | None,
        *,
        tile: tuple[int, int] | int,
        batch_size: int,
        flip: bool,
        seconds: dict[str, float],
    ) -> list[View]:
        """What comes before the tiles, for the photograph and, with `flip`, its mirror image. Adds to `seconds`.

                The mirror image gets the mirrored coarse depth.
        A bundle's own network looks at the mirror image itself: its features cannot be mirrored.
        """
        with timed(seconds, "coarse"):
            coarse = self._coarse_depth(rgb, coarse_depth, coarse_kind, coarse_unit, focal_px)
        views = [View(rgb, self._prepare(rgb, coarse, tile, batch_size, seconds))]
        if flip:
            seen = mirror(rgb)
            with timed(seconds, "coarse"):
                if self.bundle:
                    flipped = self._coarse_depth(seen, None, "depth", "metre", focal_px)
                else:
                    flipped = CoarseDepth(coarse.values.flip(-1), unit=coarse.unit)
            ready = self._prepare(seen, flipped, tile, batch_size, seconds)
            views.append(View(seen, ready, mirrored=True))
        return views

    def _prepare(
        self,
        rgb: Any,
        coarse: CoarseDepth,
        tile: tuple[int, int] | int,
        batch_size: int,
        seconds: dict[str, float],
    ) -> Prepared:
        """What comes between the coarse depth and the tiles: guidance, the passes at reduced size."""
        with timed(seconds, "coarse"):
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
        *,
        flip: bool = False,
        confidence: np.ndarray | None = None,
    ) -> Depth:
        """The result, with all that is known of the run."""
        return Depth(
            depth=depth,
            coarse=coarse.values[0, 0].numpy(),
            tiling=plan.description,
            seam=seam,
            tiles=len(plan.tiles) * (2 if flip else 1),
            batch_size=batch,
            device=str(self.device),
            precision=str(self.dtype).removeprefix("torch."),
            unit=coarse.unit,
            tta="flip" if flip else None,
            confidence=confidence,
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
        if self._bundle_coarse is not None:
            if given is not None:
                raise UsageError(f"--coarse-depth: {self.name} is a bundle and refines its own depth only")
            return self._run_bundle_coarse(shrink(rgb, self._process_size))
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
        self.refine_into(blender, [View(small, ready)], batch_size, lambda done, total: None)
        return torch.from_numpy(blender.result())[None, None]

    def refine_into(
        self, blender: TileSink, views: Sequence[View], batch_size: int, progress: Progress
    ) -> int:
        """Refine every tile of the blender's plan in every view into it, in the space of the first view's scale.

        Returns the batch size that went through.
        """
        plan, scale = blender.plan, views[0].ready.scale
        batch = batch_size or self._choose_batch(plan)
        on_device = {view.mirrored: view.ready.normalised.to(self.device) for view in views}
        done, total = 0, len(plan.tiles) * len(views)
        for view, left in in_turn(plan, views):
            own_scale: Any = view.ready.scale
            while left:
                tiles = left[:batch]
                try:
                    values = self._refine_batch(
                        view.rgb, on_device[view.mirrored], view.ready.features, tiles, plan
                    )
                except torch.OutOfMemoryError as error:
                    batch = self._smaller_batch(batch, tiles[0], error)
                    continue
                if own_scale is not scale:
                    values = scale.convert(values, own_scale)
                for tile, value in zip(tiles, values, strict=True):
                    blender.add(tile, value, mirrored=view.mirrored)
                left = left[len(tiles) :]
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
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start
