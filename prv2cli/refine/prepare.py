"""What comes before the tiles: coarse depth, its scale and noise, guidance, the pass at half size, the mirror image.

    Subject ─ coarse network, or the given map ─ holes filled ─ normalised, noise taken out ─┐
        └─ guidance of the whole photograph ─────────────────────── pass at half size ───────┴─> Views

Several photographs go through each step together, so that small ones fill a device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from prv2cli.coarse.aspect import check_aspect
from prv2cli.coarse.given import as_prompt, given_coarse
from prv2cli.coarse.network import (
    CoarseDepth,
    CoarseNetwork,
    PromptedNetwork,
    bundle_input,
    positive_depth,
    predict_many,
    takes_prompt,
)
from prv2cli.errors import UsageError
from prv2cli.model.call_per_size import call_per_size
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import BundleConfig, RefinerConfig
from prv2cli.model.depth_space import MIN_METRES, Affine, LogNormalisation, PlainMetres, Scale
from prv2cli.model.refiner.patchrefiner import SURFACE_WINDOW
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject, Tiling
from prv2cli.refine.sky import check_something_is_seen, put_behind
from prv2cli.refine.tiles.authors import to_process
from prv2cli.refine.tiles.grid import GridCanvas, View, canvases_of, mirror, to_pixels
from prv2cli.refine.tiles.loop import Prepared, TileLoop
from prv2cli.refine.tiles.plan import largest_tile, plan_photograph
from prv2cli.refine.tiles.settled import edges_after
from prv2cli.resampling.area import reduce_photograph, shrink
from prv2cli.resampling.aspect import ASPECT_TOLERANCE, aspect_error
from prv2cli.resampling.guide import guide_size, to_guide
from prv2cli.restoration.back_projection import Difference, difference, on_grid
from prv2cli.restoration.character import character
from prv2cli.restoration.edge_width import WIDE_EDGES, edge_width
from prv2cli.restoration.noise.find import find_noise, without
from prv2cli.restoration.noise.grain_pyramid import SIDE
from prv2cli.tiling.blend import Blender
from prv2cli.tiling.plan import REDUCED, TilePlan

PILOT_SIDE = 512  # pixels on the longer side of the small edition by which a network is chosen
# Of the squares of what the network for blurred maps changes there: at most 0.12 behind maps at 1/6 to 1/16, 0.19 and
# more behind those of networks and sensors (of 32, the 28 that have depth and no noise).
PILOT_UNEXPLAINED = 0.15
# Of its absolute values, less where the blur is wide: 0.38 behind maps at 1/6 whose blur is 3 px there, 0.26 behind
# those at 1/8 whose blur is 7 px, 0.27 behind one at 1/16; of the smooth maps of a small network, with as wide a blur,
# nearly all have more, and all of a small network that no training saw.
PILOT_SCATTERED, PILOT_NARROW, PILOT_LEAST = 0.2, 0.63, 0.28


class BundleCoarse:
    """The coarse network of a bundle: its depth comes with the features that the bundle's refiner was trained on."""

    def __init__(self, module: nn.Module, bundle: BundleConfig, device: torch.device) -> None:
        self._module, self._bundle, self._device = module, bundle, device

    def predict(self, rgb: Any, *, as_the_authors: bool = False) -> CoarseDepth:
        """Coarse depth of a photograph; `as_the_authors`: resized as in their own tiling, whatever the network.

        Raises InputError: the network sees no surface in it.
        """
        if as_the_authors:
            image = to_process(to_pixels([rgb], torch.device("cpu")), self._bundle.process_size)
        else:
            image = bundle_input(rgb, self._bundle)
        output: CoarseOutput = self._module(image.to(self._device))
        found = CoarseDepth(
            output.depth.float().cpu().clamp_min(MIN_METRES),
            features=output.features,
            seen=None if output.valid is None else output.valid.cpu(),
            as_seen=True,
            estimated_focal_px=_focal_px(output, image.shape[-2:], rgb.shape[:2]),
            normals=None if output.normals is None else output.normals.float().cpu(),
        )
        check_something_is_seen(found)
        return found


class Preparer:
    """Prepares photographs for the tiles of one refiner.

    Args:
        coarse: the network to run where no map is given: any, or a bundle's own; None where there is none.
        name: of the refiner, for messages.
        blurred: the loop with the network for maps that were blurred and nothing else, if there is one.
    """

    def __init__(
        self,
        config: RefinerConfig,
        loop: TileLoop,
        coarse: CoarseNetwork | BundleCoarse | None,
        name: str,
        blurred: TileLoop | None = None,
    ) -> None:
        self.config, self._loop, self._coarse, self._name = config, loop, coarse, name
        self._blurred = blurred

    def views(
        self, subjects: Sequence[Subject], request: RefineRequest, seconds: dict[str, float]
    ) -> list[list[View]]:
        """Of each photograph its views: as it is and, with `request.flip`, seen in a mirror. Adds to `seconds`.

        Raises:
            InputError: a given map without any valid pixel or of another aspect. UsageError: nothing to refine.
        """
        photos: list[Any] = [subject.rgb for subject in subjects]
        with timed(seconds, "coarse"):
            coarse = self._coarse_depths(subjects, request)
        with timed(seconds, "reduced"):
            loops = [self._loop_for(*pair) for pair in zip(subjects, coarse, strict=True)]
        views = [[view] for view in self._prepare(photos, coarse, loops, request, seconds)]
        if request.flip:  # after the others: what a pass at half size needs is held once
            seen = [mirror(rgb) for rgb in photos]
            with timed(seconds, "coarse"):
                flipped = [self._mirrored(*pair) for pair in zip(seen, coarse, strict=True)]
            for found, view in zip(views, self._prepare(seen, flipped, loops, request, seconds), strict=True):
                found.append(replace(view, mirrored=True))
        return views

    # --- coarse depth -----------------------------------------------------------------------------------------

    def _coarse_depths(self, subjects: Sequence[Subject], request: RefineRequest) -> list[CoarseDepth]:
        """The coarse depth of each, finite and, unless it is affine, > 0 and never inverse; of a bundle with features.

        Those that the network takes together are run together.
        """
        if isinstance(self._coarse, BundleCoarse):
            if any(subject.given for subject in subjects):
                raise UsageError(f"--coarse-depth: {self._name} is a bundle and refines its own depth only")
            authors = request.tiling.mode is not None
            return [self._coarse.predict(subject.rgb, as_the_authors=authors) for subject in subjects]
        asked = [subject for subject in subjects if subject.given is None]
        photos: list[Any] = [subject.rgb for subject in asked]
        focals = [request.focal_px or subject.focal_px for subject in asked]
        predicted = iter(predict_many(self._network(), photos, focals) if asked else [])
        return [
            self._from_map(subject, subject.given) if subject.given else _positive(next(predicted))
            for subject in subjects
        ]

    def _from_map(self, subject: Subject, given: GivenDepth) -> CoarseDepth:
        """The given map itself, or what a network makes of it that takes it as its prompt."""
        if not given.stretched:
            check_aspect(given.values.shape, subject.size)
        coarse, rgb = self._coarse, subject.rgb
        network = coarse if isinstance(coarse, PromptedNetwork) and coarse.takes_prompt else None
        if network is not None and given.keep_holes:
            raise UsageError(
                "keep_holes: a network that takes the map as its prompt knows depth everywhere; leave it out"
            )
        known = given_coarse(
            given.values, given.kind, given.unit, given.half_step, keep_holes=given.keep_holes
        )
        return known if network is None else _positive(network.predict_prompted(rgb, as_prompt(known)))

    def is_estimated(self, subject: Subject) -> bool:
        """Whether a coarse network makes the coarse depth of a photograph, here or before, prompted or not."""
        return subject.given is None or subject.given.estimated or takes_prompt(self._coarse)

    def _network(self) -> CoarseNetwork:
        if self._coarse is None:
            raise UsageError("no coarse network was loaded: give a coarse depth map (--coarse-depth FILE)")
        assert not isinstance(self._coarse, BundleCoarse)
        return self._coarse

    def _mirrored(self, seen: Any, coarse: CoarseDepth) -> CoarseDepth:
        """The coarse depth of a mirrored photograph: the mirrored one.

        A bundle's own network looks at the mirror image itself, as its features cannot be mirrored.
        """
        if isinstance(self._coarse, BundleCoarse):
            return self._coarse.predict(seen)
        measured = None if coarse.measured is None else coarse.measured.flip(-1)
        return replace(coarse, values=coarse.values.flip(-1), measured=measured)

    # --- which network ----------------------------------------------------------------------------------------

    def _loop_for(self, subject: Subject, coarse: CoarseDepth) -> TileLoop:
        """The network for blurred maps behind a given map that is one; else the one for all maps.

        A small edition of the photograph is refined to tell: a blur explains all of what that changes, or not.
        """
        if self._blurred is None or self.is_estimated(subject):
            return self._loop
        size = guide_size(*subject.size, 1, PILOT_SIDE)
        if min(size) < self.config.tile_multiple:
            return self._loop
        small = reduce_photograph(subject.rgb, size)
        view = self._prepare([small], [coarse], [self._blurred], RefineRequest(), {})[0]
        if view.ready.noise is not None:
            return self._loop
        largest = largest_tile(self._loop.device)
        blender = Blender(plan_photograph(self.config, *size, Tiling(), largest=largest))
        refine_into([blender], [[view]], 0)
        assert view.ready.given is not None
        found = difference(on_grid(blender.finish().values, view.ready.given))
        return self._blurred if _was_only_blurred(found) else self._loop

    # --- guidance ---------------------------------------------------------------------------------------------

    def _prepare(
        self,
        photos: Sequence[Any],
        coarse: Sequence[CoarseDepth],
        loops: Sequence[TileLoop],
        request: RefineRequest,
        seconds: dict[str, float],
    ) -> list[View]:
        with timed(seconds, "coarse"):
            prepared = self._guided(photos, coarse, loops)
        with timed(seconds, "reduced"):
            prepared = self._after_half_size(photos, prepared, loops, request)
        return [View(*one) for one in zip(photos, prepared, loops, strict=True)]

    def _guided(
        self, photos: Sequence[Any], coarse: Sequence[CoarseDepth], loops: Sequence[TileLoop]
    ) -> list[Prepared]:
        """Photographs with their coarse depth, normalised, and the features that guide the tiles."""
        scales = [self._scale_of(one) for one in coarse]
        normalised = [scale.encode(one.values) for scale, one in zip(scales, coarse, strict=True)]
        known = zip(photos, normalised, coarse, strict=True)
        noise = [self._noise_of(rgb, depth, given.measured) for rgb, depth, given in known]
        normalised = [without(*pair) for pair in zip(noise, normalised, strict=True)]
        if isinstance(self._coarse, BundleCoarse):
            features = [one.features for one in coarse]
        else:
            features = self._encode_images(photos, normalised, coarse, loops)
        parts = zip(coarse, scales, normalised, features, noise, normalised, strict=True)
        return [Prepared(*one) for one in parts]

    def _scale_of(self, coarse: CoarseDepth) -> Scale:
        if self.config.depth_space == "metres":
            return PlainMetres.of(coarse.values)
        if coarse.affine:
            return Affine.of(coarse.values, -1 if coarse.kind == "inverse" else 1)
        return LogNormalisation.of(coarse.values)

    def _noise_of(self, rgb: Any, normalised: Tensor, measured: Tensor | None) -> Tensor | None:
        if not self.config.denoise:
            return None
        size = guide_size(rgb.shape[0], rgb.shape[1], 1, SIDE)
        return find_noise(normalised, size, partial(shrink, rgb, size), measured)

    def _encode_images(
        self,
        photos: Sequence[Any],
        normalised: Sequence[Tensor],
        coarse: Sequence[CoarseDepth],
        loops: Sequence[TileLoop],
    ) -> list[list[Tensor]]:
        inputs: list[list[Tensor]] = []
        device = self._loop.device
        for rgb, depth, given in zip(photos, normalised, coarse, strict=True):
            size = self._guide_size(rgb)
            known = [shrink(rgb, size), to_guide(depth, size)]
            if self.config.coarse.character:
                known.append(character(depth, rgb.shape, size, SURFACE_WINDOW, given.measured))
            inputs.append([part.to(device) for part in known])
        found: dict[int, list[Tensor]] = {}
        for loop in dict.fromkeys(loops):
            own = [i for i, other in enumerate(loops) if other is loop]
            features = call_per_size(loop.network.encode_image, [inputs[i] for i in own])
            found |= dict(zip(own, features, strict=True))
        return [found[i] for i in range(len(photos))]

    def _guide_size(self, rgb: Any) -> tuple[int, int]:
        settings = self.config.coarse
        return guide_size(rgb.shape[0], rgb.shape[1], settings.guide_stride, settings.guide_max_side)

    # --- the pass at half size --------------------------------------------------------------------------------

    def _after_half_size(
        self,
        photos: Sequence[Any],
        prepared: Sequence[Prepared],
        loops: Sequence[TileLoop],
        request: RefineRequest,
    ) -> list[Prepared]:
        """With the normalised log-depth (1, 1, h, w) of a pass at half size, where one is needed."""
        found = list(prepared)
        plans = {
            i: self.half_size_plan(photo.shape[0], photo.shape[1], request.tiling)
            for i, photo in enumerate(photos)
            if self._has_wide_edges(photo, prepared[i].normalised)
        }
        blenders = {i: Blender(plan) for i, plan in plans.items() if plan is not None}
        small = [reduce_photograph(photos[i], (b.plan.height, b.plan.width)) for i, b in blenders.items()]
        views = [[View(rgb, found[i], loops[i])] for rgb, i in zip(small, blenders, strict=True)]
        # What is one pixel soft here is REDUCED pixels soft at the photograph's own size.
        refine_into(list(blenders.values()), views, request.batch_size, steeper=REDUCED)
        for i, blender in blenders.items():
            result: Any = blender.finish().values
            scale = found[i].scale
            # Settled parts are of this pass alone: two tiles that show one are no two predictions.
            compared = request.confidence and not request.flip
            edges = (
                None if compared or isinstance(scale, PlainMetres) else edges_after(result, scale.contrast)
            )
            normalised = torch.from_numpy(result)[None, None]
            multiple = self.config.tile_multiple
            found[i] = replace(found[i], normalised=normalised, edges=edges, multiple=multiple)
        return found

    def half_size_plan(self, height: int, width: int, tiling: Tiling) -> TilePlan | None:
        """The tiles of the pass at half size of a photograph of this size; None where there is none."""
        height, width = height // REDUCED, width // REDUCED
        if isinstance(self._coarse, BundleCoarse) or min(height, width) < self.config.tile_multiple:
            return None
        # The overlap is the default: what is asked for is about the pass at full size.
        largest = largest_tile(self._loop.device)
        return plan_photograph(self.config, height, width, Tiling(tile=tiling.tile), largest=largest)

    def _has_wide_edges(self, rgb: Any, normalised: Tensor) -> bool:
        """Whether the coarse map is so soft that a pass at half size comes first.

        A wide blur is out of reach for one pass at full size; at half size it is half as wide and costs a quarter.
        Where the coarse map is sharper than that, a pass more would only add its own errors.
        """
        size = self._guide_size(rgb)
        pixels = max(rgb.shape[:2]) / max(size)
        return pixels * edge_width(to_guide(normalised, size)) > WIDE_EDGES


def refine_into(
    blenders: Sequence[Blender],
    views: Sequence[Sequence[View]],
    batch_size: int,
    progress: Any = lambda done, total: None,
    steeper: float = 1.0,
) -> list[int]:
    """Refine every tile of every view of several photographs into their blenders; the batch size of each.

    Those with tiles of one size and one network share their batches.
    """
    groups: dict[tuple[TileLoop, tuple[int, int]], list[GridCanvas]] = {}
    for seen, blender in zip(views, blenders, strict=True):
        for canvas in canvases_of(seen, blender):
            groups.setdefault((seen[0].loop, canvas.tile_size), []).append(canvas)
    batches: dict[int, int] = {}
    for (loop, _), group in groups.items():
        batch = loop.run(group, batch_size, progress, steeper)
        batches |= {id(canvas.sink): batch for canvas in group}
    return [batches[id(blender)] for blender in blenders]


def _was_only_blurred(found: Difference) -> bool:
    """Whether a blur explains what the network for blurred maps changes of a small edition."""
    if found.blur == 0:
        return False
    scattered = max(PILOT_LEAST, PILOT_SCATTERED + PILOT_NARROW / found.blur)
    return found.unexplained <= PILOT_UNEXPLAINED and found.scattered <= scattered


def _focal_px(output: CoarseOutput, seen: Sequence[int], photograph: Sequence[int]) -> float | None:
    """The focal length that a bundle's network found, in the photograph's pixels.

    None where it found none, or saw the photograph at another aspect, as the focal length of no camera.
    """
    if output.focal is None or aspect_error(seen, photograph) > ASPECT_TOLERANCE:
        return None
    focal = float(output.focal[0]) * math.hypot(*photograph) / 2
    return focal if focal > 0 else None


def _positive(coarse: CoarseDepth) -> CoarseDepth:
    """As depth, finite and > 0, holes filled, the sky behind all the rest; without features, which nothing reads."""
    check_something_is_seen(coarse)
    values = positive_depth(coarse)
    if coarse.seen is not None:
        values = put_behind(values, coarse.seen)
    return replace(coarse, values=values, kind="depth", features=[])


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the time of a block to `seconds[part]`."""
    start = time.perf_counter()
    yield
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start
