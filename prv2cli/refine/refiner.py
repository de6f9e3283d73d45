"""Refiner: a photograph as an array in, its depth as an array out. No files, no printing.

    Subjects ─ plan ─ Preparer ─ Views ─ TileLoop ─ Blender ─ fuse ─> Depths
    (photographs)     coarse depth,      the refiner,         one map each,
                      guidance           tile by tile         corrected, in metres

One engine for one photograph, for several, and for those that do not fit in memory: pixels and results are arrays in
memory or on disk (files/disk_array.py); only tiles travel to the device.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prv2cli.checkpoints.model_file import Checkpoint
from prv2cli.checkpoints.publish import push_to_hub, save_pretrained
from prv2cli.choices import Kind, Scene, Tta, Unit
from prv2cli.coarse.network import CoarseNetwork
from prv2cli.errors import CheckpointError, UsageError
from prv2cli.files.disk_array import DiskArray
from prv2cli.machine.devices import choose_device, choose_precision
from prv2cli.machine.memory import keep_freed_memory
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import BundleConfig, RefinerConfig
from prv2cli.model.layers import resize
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.refine.fuse import Depth
from prv2cli.refine.load import Check, Loaded, load_networks
from prv2cli.refine.prepare import BundleCoarse, Preparer, refine_into, timed
from prv2cli.refine.request import GivenDepth, Models, RefineRequest, Subject, Tiling
from prv2cli.refine.result import Known, Ran, depth_of
from prv2cli.refine.tiles.authors import PaperSetup, in_the_photograph, plan_authors_tiles, refine_paper
from prv2cli.refine.tiles.grid import View, to_pixels
from prv2cli.refine.tiles.loop import Progress, TileLoop
from prv2cli.refine.tiles.plan import largest_tile, plan_photograph
from prv2cli.tiling.blend import Blended, Blender
from prv2cli.tiling.plan import TilePlan

logger = logging.getLogger("prv2cli")


def _quiet(done: int, total: int) -> None:
    """Nobody wants to know."""


class Refiner:
    """A refiner with its coarse network, ready on a device.

    `Refiner.from_pretrained("refiner-s")(image)` has `.depth`, an (H, W) float32 array in `.unit`: metre or relative.
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
        self.bundle = refiner.config if isinstance(refiner.config, BundleConfig) else None
        self.coarse = coarse
        own: BundleCoarse | None = None
        if self.bundle is not None:
            if coarse is not None:
                raise UsageError(f"{name} is a bundle: its refiner works with its own coarse network only")
            own = BundleCoarse(self._on_device(refiner.part("coarse").build()), self.bundle, self.device)
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
        network, blurred = refiner.build(), refiner.for_blurred()
        self.loop = self._loop_of(network)
        for_blurred = None if blurred is None else self._loop_of(blurred.build(like=network))
        self.preparer = Preparer(self.config, self.loop, own or coarse, name, for_blurred)

    def _loop_of(self, network: nn.Module) -> TileLoop:
        network = self._on_device(network)
        assert isinstance(network, PatchRefiner)
        return TileLoop(network, self.device, self.dtype)

    def _on_device(self, model: nn.Module) -> nn.Module:
        placed: nn.Module = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed.requires_grad_(False)

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
            scene: let "auto" take the Depth Anything V2 for such scenes; also the range of a file of its own.
            revision: of the model's Hub repository: a commit, a branch or a tag. offline: use the cache only.
            cache_dir: instead of the Hub's cache (HF_HUB_CACHE).

        Raises:
            UsageError: unknown name. CheckpointError: a file that is no model. DeviceError: no such device.
        """
        models = Models(model, coarse, scene, revision, offline, device, precision)
        return cls._of(load_networks(models, cache_dir=cache_dir), models)

    @classmethod
    def load(cls, models: Models, check: Check | None = None) -> Refiner:
        """What from_pretrained() gives, in a program of its own. `check` and what is raised: see load_networks."""
        keep_freed_memory()
        return cls._of(load_networks(models, check=check), models)

    @classmethod
    def _of(cls, loaded: Loaded, models: Models) -> Refiner:
        name, refiner, coarse = loaded
        logger.info("refiner %s; coarse %s", name, coarse.name if coarse else "none of its own")
        return cls(refiner, coarse, device=models.device, precision=models.precision, name=name)

    def save_pretrained(self, folder: str | Path, *, licence: str | None = None) -> Path:
        """Write the refiner (of a bundle: both networks) and a model card to a folder; see publish.py."""
        return save_pretrained(self.checkpoint, folder, name=self.name, licence=licence)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, token: str | None = None, licence: str | None = None
    ) -> str:
        """Upload the refiner (of a bundle: both networks) with a model card; returns the commit. See publish.py."""
        return push_to_hub(self.checkpoint, repo_id, private=private, token=token, licence=licence)

    def __call__(self, rgb: np.ndarray, **options: Any) -> Depth:
        """The same as refine()."""
        return self.refine(rgb, **options)

    def refine(
        self,
        rgb: np.ndarray | DiskArray,
        *,
        coarse_depth: np.ndarray | None = None,
        coarse_kind: Kind = "depth",
        coarse_unit: Unit = "metre",
        keep_holes: bool = False,
        focal_px: float | None = None,
        tile: tuple[int, int] | int = 0,
        overlap: float | None = None,
        batch_size: int = 0,
        mode: str | None = None,
        seed: int = 0,
        tta: Tta = "auto",
        confidence: bool = False,
        progress: Progress = _quiet,
    ) -> Depth:
        """Depth of one photograph at its full size.

        Args:
            rgb: (H, W, 3) uint8 or uint16, sRGB, upright; in memory or on disk (photo/on_disk.py).
            coarse_depth: (h, w) depth to refine instead of running the coarse network, any size of the photograph's
                aspect; NaN and infinite pixels are holes, in metres 0 and negative ones too. With coarse_kind="inverse"
                it is 1/depth. With keep_holes its holes have no depth in the result, without it they are filled.
            focal_px: focal length in pixels of this photograph, for the coarse networks that use it.
            tile: rows, columns (or one number for both); 0 = chosen here. overlap: share of a tile, 0..0.5.
            batch_size, tta, confidence: see RefineRequest. mode, seed: see Tiling.

        Returns:
            Depth; `depth` is depth in the unit of the coarse map, on disk where the photograph is. Of a map of relative
            inverse depth it is inverse depth, as the map was (`kind`).

        Raises:
            InputError: a coarse map without any valid pixel or of another aspect. UsageError: impossible options.
        """
        request = RefineRequest.of(
            tile=tile,
            overlap=overlap,
            batch_size=batch_size,
            mode=mode,
            seed=seed,
            tta=tta,
            confidence=confidence,
            focal_px=focal_px,
        )
        given = (
            None
            if coarse_depth is None
            else GivenDepth(coarse_depth, coarse_kind, coarse_unit, keep_holes=keep_holes)
        )
        return self.run([Subject(rgb, given=given)], request, progress)[0]

    @torch.inference_mode()
    def run(
        self, subjects: Sequence[Subject], request: RefineRequest, progress: Progress = _quiet
    ) -> list[Depth]:
        """What refine() gives, of each photograph; tiles of several go through the device together.

        For small photographs, one of which leaves a GPU idle. The values are those of one alone but for float32's
        rounding, which depends on how many tiles a batch has (1e-4 of the depth at most is tested). `seconds` is
        each photograph's share.

        Raises:
            What refine() raises, for the first photograph with which something is wrong.
        """
        plans = [self.plan(*subject.size, request.tiling) for subject in subjects]
        self._check(subjects, plans, request)
        seconds: dict[str, float] = {}
        views = self.preparer.views(subjects, request, seconds)
        with ExitStack() as unfinished:
            with timed(seconds, "tiles"):
                blended, batches = self._through_tiles(subjects, plans, views, request, progress, unfinished)
            known = [
                Known.of(seen, request.focal_px, subject, estimated=self.preparer.is_estimated(subject))
                for seen, subject in zip(views, subjects, strict=True)
            ]
            del views  # the results of the passes at half size are large
            share = {part: value / len(subjects) for part, value in seconds.items()}
            found = [
                depth_of(values, plan, about, self.config, self._ran(request, batch), dict(share))
                for values, plan, about, batch in zip(blended, plans, known, batches, strict=True)
            ]
            unfinished.pop_all()
        return found

    def _by_authors(self, tiling: Tiling) -> bool:
        """Whether the authors' own tiling, exact, is asked for: a bundle has it."""
        return self.bundle is not None and tiling.mode is not None

    def _ran(self, request: RefineRequest, batch_size: int) -> Ran:
        """How the tiles went through: the authors' own tiling is always of float32."""
        precision = "float32" if self._by_authors(request.tiling) else str(self.dtype).removeprefix("torch.")
        return Ran(str(self.device), precision, batch_size)

    def plan(self, height: int, width: int, tiling: Tiling | None = None) -> TilePlan:
        """The tiles of a photograph of this size. Raises UsageError."""
        model, largest, tiling = self.bundle or self.config, largest_tile(self.device), tiling or Tiling()
        if self.bundle is not None and tiling.mode is not None:  # _by_authors, which mypy does not look into
            setup, rng = PaperSetup(self.bundle.process_size), random.Random(tiling.seed)
            found = plan_authors_tiles((height, width), setup, tiling.mode, rng)
            return in_the_photograph(found, tiling.mode, self.config.tile_multiple)
        return plan_photograph(model, height, width, tiling, largest=largest)

    def tiles_at_once(self, batch_size: int = 0) -> int:
        """How many tiles the device takes at a time, of the largest size; 1 on the CPU, whose cores one tile fills."""
        side = largest_tile(self.device)
        return batch_size or self.loop.choose_batch((side, side))

    @property
    def coarse_peak(self) -> int:
        """Bytes of the process during a pass of the coarse network on a CPU, where that is known; else 0."""
        return int(getattr(self.coarse, "peak_bytes", 0))

    def check(self, request: RefineRequest) -> None:
        """Refuse what no photograph could be refined with. Raises UsageError."""
        if self.bundle is not None:
            request.check_bundle()

    def _check(self, subjects: Sequence[Subject], plans: Sequence[TilePlan], request: RefineRequest) -> None:
        self.check(request)
        for subject, plan in zip(subjects, plans, strict=True):
            request.check_plan(plan)
            if subject.on_disk:
                request.check_on_disk()

    def _through_tiles(
        self,
        subjects: Sequence[Subject],
        plans: Sequence[TilePlan],
        views: Sequence[Sequence[View]],
        request: RefineRequest,
        progress: Progress,
        unfinished: ExitStack,
    ) -> tuple[list[Blended], list[int]]:
        """The blended map of each photograph, and how many tiles went at a time; `unfinished` gives disk space back."""
        if self._by_authors(request.tiling):
            authors = [
                self._as_the_authors(subject, seen[0], request.tiling, progress)
                for subject, seen in zip(subjects, views, strict=True)
            ]
            return authors, [PaperSetup.batch] * len(authors)
        blenders = []
        for subject, plan in zip(subjects, plans, strict=True):
            folder = subject.rgb.folder if isinstance(subject.rgb, DiskArray) else None
            blender = Blender(plan, folder, passes=request.views, compare=request.confidence)
            unfinished.callback(blender.close)
            blenders.append(blender)
        batches = refine_into(blenders, views, request.batch_size, progress)
        return [blender.finish() for blender in blenders], batches

    def _as_the_authors(self, subject: Subject, view: View, tiling: Tiling, progress: Progress) -> Blended:
        """A bundle's depth in the exact tiling of the paper, brought to the photograph's size."""
        assert self.bundle is not None
        assert tiling.mode is not None
        image = to_pixels([subject.rgb[:]], self.device)
        coarse = CoarseOutput(view.ready.normalised.to(self.device), view.ready.features)
        setup, rng = PaperSetup(self.bundle.process_size), random.Random(tiling.seed)
        depth = refine_paper(self.loop.network, image, coarse, setup, tiling.mode, rng, progress)
        return Blended(resize(depth, subject.size, True)[0, 0].numpy(), None)
