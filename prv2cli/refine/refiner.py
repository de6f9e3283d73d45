"""Refiner: a photograph as an array in, its depth as an array out. No files, no printing.

    photograph ─ coarse network (or a given depth map) ─ fill ─ normalised log-depth ─┐
         └─ tiles ─────────────── refiner, batch by batch ── blend ── metres <────────┘

The photograph and the result stay in main memory; only tiles travel to the device.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli.checkpoints.model_file import Checkpoint
from prv2cli.checkpoints.publish import push_to_hub, save_pretrained
from prv2cli.coarse.load import load_coarse
from prv2cli.coarse.network import (
    CoarseDepth,
    CoarseNetwork,
    Kind,
    Unit,
    bundle_input,
    positive_depth,
    predict_many,
)
from prv2cli.errors import CheckpointError, UsageError
from prv2cli.files.disk_array import SpooledArray
from prv2cli.hub.registry import DEFAULT_REFINER, Scene
from prv2cli.hub.resolve import auto_coarse, resolve
from prv2cli.machine.devices import choose_device, choose_precision, free_memory
from prv2cli.model.call_per_size import call_per_size
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import BundleConfig, RefinerConfig
from prv2cli.model.depth_space import MIN_METRES, LogNormalisation, PlainMetres
from prv2cli.model.layers import resize
from prv2cli.model.refiner.guide import guide_size, to_guide
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.refine.authors_tiling import PaperSetup, refine_paper, to_process
from prv2cli.refine.load import load_model
from prv2cli.refine.passes import View, canvases, mirror
from prv2cli.refine.plan import (
    DEFAULT_OVERLAP,
    TILE_SIZES,
    Tta,
    check_passes,
    check_photograph,
    flips,
    plan_photograph,
)
from prv2cli.refine.result import Depth
from prv2cli.refine.tile_loop import (
    BYTES_PER_TILE_PIXEL,
    Prepared,
    Progress,
    TileLoop,
    TileSink,
    by_tile_size,
)
from prv2cli.restoration.back_projection import back_project
from prv2cli.restoration.coarse_map import WIDE_EDGES, check_aspect, edge_width, reduce_photograph, shrink
from prv2cli.restoration.noise import find_noise, without
from prv2cli.restoration.shock_filter import shock_filter
from prv2cli.tiling.disagreement import to_confidence
from prv2cli.tiling.plan import REDUCED, Blender, TilePlan, seam_excess

logger = logging.getLogger("prv2cli")

REDUCED_PASSES = (REDUCED,)  # divisors of the photograph's size, before the pass at full size


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
        self._loop = TileLoop(self._patch_refiner, self.device, self.dtype)

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
        name = DEFAULT_REFINER if model == "auto" else model
        source = resolve(name, revision=revision, offline=offline, cache_dir=cache_dir)
        checkpoint = load_model(source)
        network = None
        if coarse is not None and not (coarse == "auto" and isinstance(checkpoint.config, BundleConfig)):
            if coarse == "auto":
                chosen = auto_coarse(scene, offline=offline, cache_dir=cache_dir)
            else:
                chosen = resolve(coarse, offline=offline, cache_dir=cache_dir)
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
        check_photograph(rgb)
        plan = self.plan(*rgb.shape[:2], tile=tile, overlap=overlap, mode=mode, seed=seed)
        flip = check_passes(plan, mode, tta, confidence, bundle=self.bundle is not None)
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
        spread = None
        with timed(seconds, "tiles"):
            if self.bundle and mode is not None:
                refined, batch = self._refine_as_the_authors(rgb, mode, seed), 1
            else:
                blender = Blender(plan, passes=len(views), compare=confidence)
                batch = self.refine_into(blender, views, batch_size, progress)
                refined = blender.result()
                spread = blender.disagreement() if confidence else None
        return self._fused(refined, views, plan, batch, seconds, spread)

    @torch.inference_mode()
    def refine_many(
        self,
        photos: Sequence[np.ndarray],
        *,
        focal_px: Sequence[float | None],
        tile: tuple[int, int] | int = 0,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 0,
        mode: str | None = None,
        seed: int = 0,
        tta: Tta = "auto",
    ) -> list[Depth]:
        """refine() of each photograph; tiles of several go through the device together.

        For small photographs, one of which leaves a GPU idle. The values are those of refine() but for float32's
        rounding, which depends on how many tiles a batch has (1e-4 of the depth at most is tested). `seconds` is
        each photograph's share.

        Args:
            photos: as refine()'s rgb, of any sizes; those whose tiles have the same size share a batch.
            focal_px: one for each. The rest as in refine().

        Raises:
            What refine() raises, for the first photograph with which something is wrong.
        """
        options: dict[str, Any] = {"tile": tile, "overlap": overlap, "mode": mode, "seed": seed}
        if self.bundle and mode is not None:  # the authors' tiling has a loop of its own
            return [
                self.refine(rgb, focal_px=focal, tta=tta, **options)
                for rgb, focal in zip(photos, focal_px, strict=True)
            ]
        for rgb in photos:
            check_photograph(rgb)
        flip = flips(tta, confidence=False)
        plans = [self.plan(*rgb.shape[:2], **options) for rgb in photos]
        seconds: dict[str, float] = {}
        with timed(seconds, "coarse"):
            coarse = self._coarse_depths(photos, focal_px)
        views = self._views(photos, coarse, tile, batch_size, flip, seconds)
        blenders = [Blender(plan, passes=len(seen)) for plan, seen in zip(plans, views, strict=True)]
        with timed(seconds, "tiles"):
            batches = self._refine_blenders(views, blenders, batch_size)
        share = {part: value / len(photos) for part, value in seconds.items()}
        return [
            self._fused(blender.result(), seen, blender.plan, batch, dict(share))
            for seen, blender, batch in zip(views, blenders, batches, strict=True)
        ]

    def plan(
        self,
        height: int,
        width: int,
        *,
        tile: tuple[int, int] | int = 0,
        overlap: float = DEFAULT_OVERLAP,
        mode: str | None = None,
        seed: int = 0,
    ) -> TilePlan:
        """The tiles of a photograph of this size: arguments as in refine(). Raises UsageError."""
        return plan_photograph(
            self.config,
            height,
            width,
            tile=tile or self._own_tile,
            overlap=overlap,
            mode=mode,
            seed=seed,
            largest=self._choose_tile(),
        )

    def tiles_at_once(self, batch_size: int = 0) -> int:
        """How many tiles the device takes at a time, of the largest size; 1 on the CPU, whose cores one tile fills."""
        side = self._choose_tile()
        return batch_size or self._loop.choose_batch((side, side))

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
        """What comes before the tiles, for the photograph and, with `flip`, its mirror image. Adds to `seconds`."""
        with timed(seconds, "coarse"):
            coarse = self._coarse_depth(rgb, coarse_depth, coarse_kind, coarse_unit, focal_px)
        return self._views([rgb], [coarse], tile, batch_size, flip, seconds)[0]

    def _views(
        self,
        photos: Sequence[Any],
        coarse: Sequence[CoarseDepth],
        tile: tuple[int, int] | int,
        batch_size: int,
        flip: bool,
        seconds: dict[str, float],
    ) -> list[list[View]]:
        """Of each photograph its views, with all that comes between the coarse depth and the tiles."""
        prepared = self._prepare(photos, coarse, tile, batch_size, seconds)
        views = [[View(rgb, ready)] for rgb, ready in zip(photos, prepared, strict=True)]
        if flip:  # after the others: what a reduced pass needs is held once
            seen = [mirror(rgb) for rgb in photos]
            with timed(seconds, "coarse"):
                flipped = [self._mirrored(*pair) for pair in zip(seen, coarse, strict=True)]
            prepared = self._prepare(seen, flipped, tile, batch_size, seconds)
            for found, rgb, ready in zip(views, seen, prepared, strict=True):
                found.append(View(rgb, ready, mirrored=True))
        return views

    def _mirrored(self, seen: Any, coarse: CoarseDepth) -> CoarseDepth:
        """The coarse depth of a mirrored photograph: the mirrored one.

        A bundle's own network looks at the mirror image itself, as its features cannot be mirrored.
        """
        if self.bundle:
            return self._coarse_depth(seen, None, "depth", "metre", None)
        return CoarseDepth(coarse.values.flip(-1), unit=coarse.unit)

    def _prepare(
        self,
        photos: Sequence[Any],
        coarse: Sequence[CoarseDepth],
        tile: tuple[int, int] | int,
        batch_size: int,
        seconds: dict[str, float],
    ) -> list[Prepared]:
        """What comes between the coarse depth and the tiles: guidance, the passes at reduced size."""
        with timed(seconds, "coarse"):
            prepared = self._guided(photos, coarse)
        with timed(seconds, "reduced"):
            return self._after_reduced_passes(photos, prepared, tile, batch_size)

    def _fused(
        self,
        refined: np.ndarray,
        views: Sequence[View],
        plan: TilePlan,
        batch: int,
        seconds: dict[str, float],
        spread: np.ndarray | None = None,
    ) -> Depth:
        """(H, W) refined map in the space of the first view's scale -> the result; `refined` becomes the depth.

        `spread`: the disagreement in that space, which becomes the confidence.
        """
        ready = views[0].ready
        certain = None
        with timed(seconds, "fuse"):
            seam = seam_excess(refined, plan, floor=ready.scale.floor)
            self.correct(refined, ready.target(), ready.scale)
            depth = ready.scale.decode_in_place(refined)
            if spread is not None:
                certain = to_confidence(ready.scale.relative_in_place(spread, depth))
        return self.finished(depth, ready.coarse, plan, seam, batch, seconds, len(views), certain)

    def correct(
        self,
        refined: np.ndarray | SpooledArray,
        target: Tensor | None,
        scale: LogNormalisation | PlainMetres,
    ) -> None:
        """Do to the whole refined map, (H, W) in the space of `scale`, what no tile can do, in place.

        `target`: Prepared.target().
        """
        if isinstance(scale, LogNormalisation):
            if target is not None:
                back_project(refined, target, self.config.back_projection)
            shock_filter(refined, self.config.shock_filter, float(scale.spread))

    def finished(
        self,
        depth: np.ndarray,
        coarse: CoarseDepth,
        plan: TilePlan,
        seam: float,
        batch: int,
        seconds: dict[str, float],
        passes: int = 1,
        confidence: np.ndarray | None = None,
    ) -> Depth:
        """The result, with all that is known of the run. `passes`: 2 with the mirrored one."""
        return Depth(
            depth=depth,
            coarse=coarse.values[0, 0].numpy(),
            tiling=plan.description,
            seam=seam,
            tiles=len(plan.tiles) * passes,
            batch_size=batch,
            device=str(self.device),
            precision=str(self.dtype).removeprefix("torch."),
            unit=coarse.unit,
            tta="flip" if passes == 2 else None,
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
        if self.bundle is not None:
            if given is not None:
                raise UsageError(f"--coarse-depth: {self.name} is a bundle and refines its own depth only")
            return self._run_bundle_coarse(bundle_input(rgb, self.bundle))
        if given is not None:
            check_aspect(given.shape, rgb.shape[:2])
            coarse = CoarseDepth(torch.from_numpy(np.array(given, dtype=np.float32))[None, None], kind, unit)
        else:
            coarse = self._network().predict(rgb, focal_px)
        return CoarseDepth(positive_depth(coarse), unit=coarse.unit)

    def _coarse_depths(
        self, photos: Sequence[np.ndarray], focals: Sequence[float | None]
    ) -> list[CoarseDepth]:
        """_coarse_depth() of each, with those that the network takes together run together."""
        if self.bundle:
            return [self._coarse_depth(rgb, None, "depth", "metre", None) for rgb in photos]
        found = predict_many(self._network(), photos, focals)
        return [CoarseDepth(positive_depth(coarse), unit=coarse.unit) for coarse in found]

    def _network(self) -> CoarseNetwork:
        if self.coarse is None:
            raise UsageError("no coarse network was loaded: give a coarse depth map (--coarse-depth FILE)")
        return self.coarse

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

    def _guided(self, photos: Sequence[np.ndarray], coarse: Sequence[CoarseDepth]) -> list[Prepared]:
        """Photographs with their coarse depth, normalised, and the features that guide the tiles."""
        scales = [self._space.of(one.values) for one in coarse]
        normalised = [scale.encode(one.values) for scale, one in zip(scales, coarse, strict=True)]
        noise = [find_noise(depth) if self.config.denoise else None for depth in normalised]
        normalised = [without(*pair) for pair in zip(noise, normalised, strict=True)]
        features = (
            [one.features for one in coarse] if self.bundle else self._encode_images(photos, normalised)
        )
        return [Prepared(*parts) for parts in zip(coarse, scales, normalised, features, noise, strict=True)]

    def _encode_images(
        self, photos: Sequence[np.ndarray], normalised: Sequence[Tensor]
    ) -> list[list[Tensor]]:
        settings = self.config.coarse
        inputs = []
        for rgb, depth in zip(photos, normalised, strict=True):
            size = guide_size(rgb.shape[0], rgb.shape[1], settings.guide_stride, settings.guide_max_side)
            inputs.append([shrink(rgb, size).to(self.device), to_guide(depth, size).to(self.device)])
        return call_per_size(self._patch_refiner.encode_image, inputs)

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

    def _after_reduced_passes(
        self,
        photos: Sequence[np.ndarray],
        prepared: Sequence[Prepared],
        tile: tuple[int, int] | int,
        batch_size: int,
    ) -> list[Prepared]:
        """With the normalised log-depth (1, 1, h, w) of the passes at reduced size, where they are needed."""
        found = list(prepared)
        wanted = [
            self._reduced_sizes(rgb, ready.normalised) for rgb, ready in zip(photos, prepared, strict=True)
        ]
        for divisor in REDUCED_PASSES:
            chosen = [place for place, divisors in enumerate(wanted) if divisor in divisors]
            sizes = [[side // divisor for side in photos[place].shape[:2]] for place in chosen]
            small = [
                reduce_photograph(photos[place], (height, width))
                for place, (height, width) in zip(chosen, sizes, strict=True)
            ]
            largest = self._choose_tile()
            blenders = [
                Blender(plan_photograph(self.config, height, width, tile=tile, largest=largest))
                for height, width in sizes
            ]
            views = [[View(rgb, found[place])] for rgb, place in zip(small, chosen, strict=True)]
            # What is one pixel soft here is `divisor` pixels soft at the photograph's own size.
            self._refine_blenders(views, blenders, batch_size, steeper=divisor)
            for place, blender in zip(chosen, blenders, strict=True):
                result = torch.from_numpy(blender.result())[None, None]
                found[place] = replace(found[place], normalised=result)
        return found

    def _refine_blenders(
        self,
        views: Sequence[Sequence[View]],
        blenders: Sequence[Blender],
        batch_size: int,
        steeper: float = 1.0,
    ) -> list[int]:
        """Refine the tiles of several photographs into their blenders; returns the batch size of each."""
        work = [canvas for pair in zip(views, blenders, strict=True) for canvas in canvases(*pair)]
        batches: dict[int, int] = {}
        for group in by_tile_size(work):
            batch = self._loop.run(group, batch_size, lambda done, total: None, steeper)
            batches |= {id(canvas.sink): batch for canvas in group}
        return [batches[id(blender)] for blender in blenders]

    def refine_into(self, sink: TileSink, views: Sequence[View], batch_size: int, progress: Progress) -> int:
        """Refine every tile of the sink's plan in every view into it; returns the batch size that went through."""
        return self._loop.run(canvases(views, sink), batch_size, progress)


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Any:
    start = time.perf_counter()
    yield
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start
