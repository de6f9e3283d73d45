"""The shipped refiner behind any coarse map: what must hold whatever the weights have learned."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch

from prv2cli.errors import DeviceError, InputError, UsageError
from prv2cli.hub.resolve import ModelFile, resolve
from prv2cli.model.depth_space import LogNormalisation
from prv2cli.refine import load
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import Models, RefineRequest, Subject, Tiling
from prv2cli.refine.tiles.loop import MAX_BATCH, TileLoop


@pytest.fixture(scope="module")
def coarse() -> np.ndarray:
    """(60, 84) metres: a slanted floor, a box before it."""
    y, x = np.mgrid[0:60, 0:84]
    depth = 4 + 3 * (1 - y / 60) + 0.3 * x / 84
    depth[24:40, 14:32] = 2.0
    return depth.astype(np.float32)


@pytest.fixture(scope="module")
def refined(refiner: Refiner, photograph: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    return refiner.refine(photograph, coarse_depth=coarse).depth


def _relative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b) / b


def _assert_alike(a: np.ndarray, b: np.ndarray) -> None:
    """Up to rounding: where an edge of a few per cent is made steep, a pixel in its middle may take more of it."""
    change = _relative(a, b)
    assert change.mean() < 1e-5
    assert (change > 1e-3).mean() < 5e-4
    assert change.max() < 0.006


def test_the_result_has_the_photographs_size_and_is_depth(
    refined: np.ndarray, photograph: np.ndarray
) -> None:
    assert refined.shape == photograph.shape[:2]
    assert refined.dtype == np.float32
    assert np.isfinite(refined).all()
    assert (refined > 0).all()


def test_it_refines(refined: np.ndarray, photograph: np.ndarray, coarse: np.ndarray) -> None:
    """The result is neither the coarse map nor far from it."""
    from PIL import Image

    up = np.asarray(Image.fromarray(coarse).resize(photograph.shape[1::-1], Image.Resampling.BILINEAR))
    change = _relative(refined, up)
    assert 1e-4 < change.mean() < 0.15


@pytest.mark.parametrize("k", [0.01, 0.37, 100.0])
def test_scaling_the_coarse_map_scales_the_result(
    refiner: Refiner, photograph: np.ndarray, coarse: np.ndarray, refined: np.ndarray, k: float
) -> None:
    scaled = refiner.refine(photograph, coarse_depth=coarse * np.float32(k)).depth
    _assert_alike(scaled, refined * k)


@pytest.mark.parametrize("value", [0.3, 7.0, 900.0])
def test_a_constant_coarse_map_stays_constant(refiner: Refiner, photograph: np.ndarray, value: float) -> None:
    flat = np.full((50, 70), value, np.float32)
    assert _relative(refiner.refine(photograph, coarse_depth=flat).depth, flat[0, 0]).max() < 0.005


def test_inverse_depth_is_refined_as_what_it_is(
    refiner: Refiner, photograph: np.ndarray, coarse: np.ndarray, refined: np.ndarray
) -> None:
    result = refiner.refine(photograph, coarse_depth=1 / coarse, coarse_kind="inverse").depth
    _assert_alike(result, refined)


@pytest.mark.parametrize("hole", [0.0, np.nan, np.inf, -np.inf, -3.0])
def test_invalid_pixels_never_poison_their_neighbours(
    refiner: Refiner, photograph: np.ndarray, coarse: np.ndarray, refined: np.ndarray, hole: float
) -> None:
    holed = coarse.copy()
    holed[30:33, 50:53] = hole
    result = refiner.refine(photograph, coarse_depth=holed).depth
    assert np.isfinite(result).all()
    assert (result > 0).all()
    far = np.ones(result.shape, bool)
    far[100:215, 200:315] = False  # 50 px around the hole
    assert _relative(result, refined)[far].max() < 0.02
    assert _relative(result, refined).max() < 0.5


def test_a_map_without_any_depth_is_refused(refiner: Refiner, photograph: np.ndarray) -> None:
    with pytest.raises(InputError, match="no valid pixel"):
        refiner.refine(photograph, coarse_depth=np.zeros((30, 42), np.float32))


@pytest.mark.parametrize("shape", [(300, 420), (150, 210), (151, 210), (3, 4), (600, 852)])
def test_any_size_of_about_the_same_aspect_is_accepted(
    refiner: Refiner, photograph: np.ndarray, shape: tuple[int, int]
) -> None:
    assert refiner.refine(photograph, coarse_depth=np.ones(shape, np.float32)).depth.shape == (300, 420)


@pytest.mark.parametrize("shape", [(420, 300), (300, 400), (300, 445), (1, 1000)])
def test_another_aspect_is_refused(refiner: Refiner, photograph: np.ndarray, shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="aspect"):
        refiner.refine(photograph, coarse_depth=np.ones(shape, np.float32))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (65, 64), (17, 700)])
def test_any_photograph_size(refiner: Refiner, shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    result = refiner.refine(rgb)
    assert result.depth.shape == shape
    assert np.isfinite(result.depth).all()


def test_sixteen_bits_are_used(
    refiner: Refiner, photograph: np.ndarray, coarse: np.ndarray, refined: np.ndarray
) -> None:
    wide = photograph.astype(np.uint16) * 257
    result = refiner.refine(wide, coarse_depth=coarse).depth
    off = _relative(result, refined)
    assert np.quantile(off, 0.999) < 1e-3  # at an edge a rounding may decide between its two surfaces
    assert off.max() < 0.1
    assert _relative(result, refined).mean() < 1e-4


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_what_is_no_photograph_is_refused(refiner: Refiner, bad: np.ndarray) -> None:
    with pytest.raises(InputError):
        refiner.refine(bad)


def test_two_tile_sizes_agree(refiner: Refiner, photograph: np.ndarray, coarse: np.ndarray) -> None:
    tall = np.concatenate([photograph, photograph[::-1]] * 2)
    deep = np.concatenate([coarse, coarse[::-1]] * 2)
    small = refiner.refine(tall, coarse_depth=deep, tile=256, overlap=0.25)
    large = refiner.refine(tall, coarse_depth=deep, tile=448, overlap=0.25)
    assert small.tiles > large.tiles
    assert _relative(small.depth, large.depth).mean() < 0.01


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_wall_and_a_ramp_show_no_grid(refiner: Refiner, slope: float) -> None:
    """Plaster, photographed with some noise: nothing in it says where a tile ends."""
    rng = np.random.default_rng(3)
    rgb = np.clip(rng.normal(150, 8, (700, 1000, 3)), 0, 255).astype(np.uint8)
    coarse = (3 + slope * np.mgrid[0:700, 0:1000][1] / 1000).astype(np.float32)
    result = refiner.refine(rgb, coarse_depth=coarse, tile=256, overlap=0.2)
    assert result.tiles >= 12
    assert abs(result.seam) < 0.05


@pytest.mark.parametrize("mode", ["m1", "m2", "r3"])
def test_the_papers_tilings_give_about_the_same(
    refiner: Refiner, photograph: np.ndarray, coarse: np.ndarray, refined: np.ndarray, mode: str
) -> None:
    result = refiner.refine(photograph, coarse_depth=coarse, mode=mode, seed=1)
    assert _relative(result.depth, refined).mean() < 0.03


@pytest.mark.parametrize(
    "options", [{"tile": 500}, {"tile": -64}, {"overlap": 0.7}, {"overlap": -0.1}, {"mode": "m9"}]
)
def test_impossible_options_are_named(
    refiner: Refiner, photograph: np.ndarray, options: dict[str, Any]
) -> None:
    flag = f"--{next(iter(options))}"
    with pytest.raises(UsageError, match=flag):
        refiner.refine(photograph, **options)


@pytest.mark.parametrize(
    "exhausted",
    [
        torch.OutOfMemoryError("pretended"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["CUDA", "Metal", "CPU"],
)
def test_out_of_memory_halves_the_batch_and_says_so_once(
    exhausted: Exception,
    refiner: Refiner,
    photograph: np.ndarray,
    coarse: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = refiner.refine(photograph, coarse_depth=coarse, tile=128, batch_size=8)
    real, seen = TileLoop._refine_batch, []

    def stingy(self: Any, part: Any, *rest: Any) -> Any:
        seen.append(len(part))
        if len(part) > 2:
            raise exhausted
        return real(self, part, *rest)

    monkeypatch.setattr(TileLoop, "_refine_batch", stingy)
    for loop in (refiner.loop, refiner.preparer._blurred):
        monkeypatch.setattr(loop, "_said_out_of_memory", False)
    with caplog.at_level(logging.WARNING, "prv2cli"):
        result = refiner.refine(photograph, coarse_depth=coarse, tile=128, batch_size=8)
        refiner.refine(photograph, coarse_depth=coarse, tile=128, batch_size=8)
    first = seen.index(8)  # the pass at half size has fewer tiles
    assert seen[first : first + 3] == [8, 4, 2]
    assert result.batch_size == 2
    assert len(caplog.records) == 1
    np.testing.assert_allclose(result.depth, whole.depth, rtol=1e-3)


def test_no_memory_for_one_tile_is_one_clear_error(
    refiner: Refiner, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(self: Any, *_: object) -> None:
        raise torch.OutOfMemoryError("pretended")

    monkeypatch.setattr(TileLoop, "_refine_batch", empty)
    with pytest.raises(DeviceError, match="--tile"):
        refiner.refine(photograph)


def test_another_failure_of_a_tile_is_no_want_of_memory(
    refiner: Refiner, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, *_: object) -> None:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(TileLoop, "_refine_batch", broken)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        refiner.refine(photograph)


@pytest.mark.parametrize("wrong", [{"batch_size": -1}, {"focal_px": 0.0}, {"focal_px": math.nan}])
def test_a_request_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"--batch-size|--focal-px"):
        RefineRequest.of(**wrong)


def test_coarse_and_refiner_are_not_confused(refiner: Refiner) -> None:
    from prv2cli.errors import CheckpointError

    with pytest.raises(CheckpointError, match="--coarse"):
        Refiner.from_pretrained("lite", coarse="lite")
    with pytest.raises(CheckpointError, match="--model"):
        Refiner.from_pretrained(coarse="refiner-s")


def test_each_network_is_looked_for_once_and_none_where_the_refiner_does_not_suit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def counted(name: Any, **options: Any) -> ModelFile:
        asked.append(name)
        return resolve(name, **options)

    def refuse(config: Any) -> None:
        raise UsageError(f"not with {config.kind}")

    monkeypatch.setattr(load, "resolve", counted)
    models = Models("refiner-s", "lite", device="cpu", precision="fp32")
    with pytest.raises(UsageError, match="not with refiner"):
        Refiner.load(models, refuse)
    assert asked == ["refiner-s"]
    seen: list[Any] = []
    loaded = Refiner.load(models, seen.append)
    assert asked == ["refiner-s", "refiner-s", "lite"]
    assert seen == [loaded.checkpoint.config]


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="refiner-s"):
        Refiner.from_pretrained("no-such-model")


def test_wide_edges_get_a_pass_at_half_size_and_sharp_ones_do_not(
    refiner: Refiner, photograph: np.ndarray
) -> None:
    height, width = photograph.shape[:2]
    x = torch.arange(float(width)).expand(1, 1, height, width)
    passes = {}
    for sigma in (4, 20):
        coarse = torch.exp(torch.erf((x - 200) / (sigma * 2**0.5)))
        normalised = LogNormalisation.of(coarse).encode(coarse)
        passes[sigma] = refiner.preparer._has_wide_edges(photograph, normalised)
    assert passes == {4: False, 20: True}
    half = refiner.preparer.half_size_plan(height, width, Tiling())
    assert half is not None
    assert half.width == width // 2
    assert refiner.preparer.half_size_plan(40, width, Tiling()) is None  # smaller than a tile may be


# --- several photographs at a time ----------------------------------------------------------------------------

SIZES = [(300, 420), (300, 420), (290, 400), (420, 300), (301, 420), (64, 700)]


@pytest.fixture(scope="module")
def several(photograph: np.ndarray) -> list[np.ndarray]:
    """Photographs of several sizes, some of whose tiles have one size; one of them with 16 bits."""
    found = []
    for k, (height, width) in enumerate(SIZES):
        tall = np.tile(photograph, (2, 2, 1))
        found.append(np.ascontiguousarray(tall[7 * k : 7 * k + height, 11 * k : 11 * k + width]))
    found[1] = found[1].astype(np.uint16) * 257
    return found


@pytest.mark.parametrize(("tile", "batch_size"), [(0, 4), (128, 16), (256, 3)])
def test_together_they_are_what_each_is_alone(
    refiner: Refiner, several: list[np.ndarray], tile: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = TileLoop._refine_batch, []

    def counted(self: Any, part: Any, *rest: Any) -> Any:
        seen.append(len({id(canvas) for canvas, _ in part}))
        return real(self, part, *rest)

    monkeypatch.setattr(TileLoop, "_refine_batch", counted)
    together = refiner.run(
        [Subject(rgb) for rgb in several], RefineRequest.of(tile=tile, batch_size=batch_size)
    )
    assert max(seen) > 1  # tiles of several photographs in one batch
    for rgb, found in zip(several, together, strict=True):
        alone = refiner.refine(rgb, tile=tile, batch_size=1)
        assert (found.tiling, found.tiles) == (alone.tiling, alone.tiles)
        assert _relative(found.depth, alone.depth).max() < 1e-3
        assert _relative(found.coarse, alone.coarse).max() < 1e-4


def test_the_pass_at_half_size_is_taken_together_too(
    refiner: Refiner, several: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prv2cli.refine.prepare.WIDE_EDGES", 0.0)
    found = refiner.run([Subject(rgb) for rgb in several[:2]], RefineRequest.of(batch_size=4))
    for rgb, one in zip(several[:2], found, strict=True):
        assert _relative(one.depth, refiner.refine(rgb).depth).max() < 1e-3
    monkeypatch.setattr("prv2cli.refine.prepare.WIDE_EDGES", np.inf)
    plain = refiner.refine(several[0]).depth
    assert _relative(found[0].depth, plain).max() > 1e-3  # there was such a pass


def test_one_of_several_that_is_no_photograph_is_told(refiner: Refiner, photograph: np.ndarray) -> None:
    with pytest.raises(InputError, match="must be"):
        refiner.run([Subject(photograph), Subject(photograph[..., 0])], RefineRequest())


def test_how_many_tiles_at_once(refiner: Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refiner.tiles_at_once() == 1  # on the CPU
    assert refiner.tiles_at_once(5) == 5
    loop = TileLoop(refiner.loop.network, torch.device("cuda"), torch.float16)
    for free, count in [(10**8, 1), (5 * 10**9, 5), (10**12, MAX_BATCH)]:
        monkeypatch.setattr("prv2cli.refine.tiles.loop.free_memory", lambda device, free=free: free)
        assert loop.choose_batch((1024, 1024)) == count
