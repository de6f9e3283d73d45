"""A refiner with weights of their own for blurred maps: which map goes through which, told from the map alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prv2cli import Refiner
from prv2cli.checkpoints.model_file import Checkpoint
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject
from prv2cli.scenes.make import Scene, make_scene

SIZE = 384


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(7, SIZE, style="still-life")


@pytest.fixture(scope="module")
def checkpoint(refiner: Refiner) -> Checkpoint:
    """The shipped refiner, whose file has both."""
    assert refiner.checkpoint.blurred
    return refiner.checkpoint


@pytest.fixture
def both(checkpoint: Checkpoint) -> Refiner:
    return Refiner(checkpoint, None, device="cpu")


@pytest.fixture
def taken(both: Refiner, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which network the tiles at full size went through."""
    names = {id(both.loop): "all", id(both.preparer._blurred): "blurred"}
    found: list[str] = []
    real: Any = type(both.loop)._refine_batch

    def told(self: Any, part: Any, *rest: Any) -> Any:
        if part[0][0].sink.plan.height == SIZE:
            found.append(names[id(self)])
        return real(self, part, *rest)

    monkeypatch.setattr(type(both.loop), "_refine_batch", told)
    monkeypatch.setattr("prv2cli.refine.prepare.PILOT_SIDE", SIZE - 32)  # not of the size that is looked at
    return found


def _blurred(depth: np.ndarray, factor: int) -> GivenDepth:
    small = (SIZE // factor, SIZE // factor)
    return GivenDepth(np.asarray(Image.fromarray(depth).resize(small, Image.Resampling.BILINEAR)))


def _staircase(depth: np.ndarray, factor: int) -> GivenDepth:
    """Sharp edges in the wrong places, as a sensor of few pixels has them."""
    low = depth[factor // 2 :: factor, factor // 2 :: factor]
    return GivenDepth(np.repeat(np.repeat(low, factor, axis=0), factor, axis=1))


def _smooth_of_a_network(scene: Scene) -> GivenDepth:
    """Edges as wide as a blur's, and the photograph's tones in the depth, 3 % of it."""
    size = (SIZE // 4, SIZE // 4)
    depth = Image.fromarray(_blurred(scene.depth, 16).values).resize(size, Image.Resampling.BICUBIC)
    grey = np.asarray(Image.fromarray(scene.rgb).convert("L").resize(size, Image.Resampling.BOX), np.float32)
    tones = (grey - grey.mean()) / grey.std()
    return GivenDepth((np.asarray(depth) * np.exp(0.03 * tones)).astype(np.float32))


@pytest.mark.parametrize("factor", [8, 16])
def test_a_blurred_map_goes_through_its_own_network(
    both: Refiner, scene: Scene, taken: list[str], factor: int
) -> None:
    both.run([Subject(scene.rgb, given=_blurred(scene.depth, factor))], RefineRequest())
    assert set(taken) == {"blurred"}


def test_a_map_with_other_faults_does_not(both: Refiner, scene: Scene, taken: list[str]) -> None:
    both.run([Subject(scene.rgb, given=_staircase(scene.depth, 6))], RefineRequest())
    assert set(taken) == {"all"}


def test_the_smooth_map_of_a_network_does_not(both: Refiner, scene: Scene, taken: list[str]) -> None:
    both.run([Subject(scene.rgb, given=_smooth_of_a_network(scene))], RefineRequest())
    assert set(taken) == {"all"}


def test_a_noisy_map_does_not(both: Refiner, scene: Scene, taken: list[str]) -> None:
    values = _blurred(scene.depth, 8).values
    noisy = values * (1 + 0.05 * np.random.default_rng(0).standard_normal(values.shape)).astype(np.float32)
    both.run([Subject(scene.rgb, given=GivenDepth(noisy))], RefineRequest())
    assert set(taken) == {"all"}


def test_together_each_goes_through_its_own(both: Refiner, scene: Scene, taken: list[str]) -> None:
    maps = [_staircase(scene.depth, 6), _blurred(scene.depth, 8), _staircase(scene.depth, 6)]
    subjects = [Subject(scene.rgb, given=one) for one in maps]
    together = both.run(subjects, RefineRequest.of(batch_size=4))
    assert taken == ["all", "blurred"]  # the staircases in one batch
    for subject, found in zip(subjects, together, strict=True):
        alone = both.run([subject], RefineRequest())[0]
        assert np.abs(found.depth / alone.depth - 1).max() < 1e-4


def test_the_mirror_image_goes_where_the_photograph_goes(
    both: Refiner, scene: Scene, taken: list[str]
) -> None:
    request = RefineRequest.of(tta="flip")
    both.run([Subject(scene.rgb, given=_blurred(scene.depth, 8))], request)
    assert len(taken) == 2
    assert set(taken) == {"blurred"}


def test_the_depth_is_that_of_the_network_alone(checkpoint: Checkpoint, both: Refiner, scene: Scene) -> None:
    subject = Subject(scene.rgb, given=_blurred(scene.depth, 8))
    blurred = checkpoint.for_blurred()
    assert blurred is not None
    alone = Refiner(blurred, None, device="cpu")
    assert alone.preparer._blurred is None
    assert np.array_equal(
        both.run([subject], RefineRequest())[0].depth, alone.run([subject], RefineRequest())[0].depth
    )


def test_a_photograph_smaller_than_a_tile_can_be(both: Refiner, scene: Scene) -> None:
    found = both.run([Subject(scene.rgb[:40, :60], given=GivenDepth(scene.depth[:40, :60]))], RefineRequest())
    assert found[0].depth.shape == (40, 60)


def test_a_map_that_a_coarse_network_made_does_not(both: Refiner, scene: Scene, taken: list[str]) -> None:
    """However blurred it looks: as where the network ran here."""
    made = replace(_blurred(scene.depth, 8), estimated=True)
    both.run([Subject(scene.rgb, given=made)], RefineRequest())
    assert set(taken) == {"all"}
