"""Noise of a coarse map: found at every scale and taken out, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.checkpoints.model_file import Checkpoint
from prv2cli.errors import ConfigError
from prv2cli.files.disk_array import DiskArray
from prv2cli.model.config import parse_model_config
from prv2cli.refine.refiner import Refiner
from prv2cli.restoration.noise.find import find_grain, find_noise, without

FACTOR = 8


def low_resolution(height: int = 72, width: int = 96) -> Tensor:
    """(1, 1, h, w): a slanted ground, a round thing and boxes before it, seen through a blur of one pixel."""
    y, x = torch.meshgrid(torch.arange(8.0 * height), torch.arange(8.0 * width), indexing="ij")
    depth = 0.4 + 0.002 * y
    depth[150:320, 80:260] = -0.6
    depth[360:440, 60:500] = -0.2
    round_thing = (y - 200).square() + (x - 560).square() < 120**2
    depth[round_thing] = -0.9 + 1e-5 * ((y - 200).square() + (x - 560).square())[round_thing]
    low = F.interpolate(depth[None, None], size=(height, width), mode="area")
    kernel = torch.exp(-0.5 * torch.arange(-4.0, 5.0).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    low = F.conv2d(F.pad(low, (4, 4, 0, 0), mode="reflect"), kernel)
    return F.conv2d(F.pad(low, (0, 0, 4, 4), mode="reflect"), kernel.mT)


def grain(like: Tensor, deviation: float = 0.03) -> Tensor:
    return deviation * torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


def enlarged(low: Tensor, factor: int = FACTOR) -> Tensor:
    return F.interpolate(low, scale_factor=factor, mode="bilinear", align_corners=False)


def photograph(low: Tensor, factor: int) -> Tensor:
    """(1, 3, H, W): brighter where it is nearer, as the surfaces are at the photograph's own size."""
    return (0.5 - 0.3 * enlarged(low, factor)).clamp(0, 1).expand(-1, 3, -1, -1).contiguous()


def noise_of(depth: Tensor, seen: Tensor) -> Tensor | None:
    return find_noise(depth, (seen.shape[-2], seen.shape[-1]), lambda: seen)


@pytest.mark.parametrize("factor", [1, FACTOR])
def test_grain_is_taken_out_at_the_maps_own_size_and_enlarged(factor: int) -> None:
    clean = low_resolution()
    noisy, clean, seen = (
        enlarged(clean + grain(clean), factor),
        enlarged(clean, factor),
        photograph(clean, factor),
    )
    cleaned = without(noise_of(noisy, seen), noisy)
    before, after = (noisy - clean).abs(), (cleaned - clean).abs()
    assert after.mean() < 0.9 * before.mean()
    ground = (..., slice(58 * factor, None), slice(None))  # away from the edges
    assert after[ground].mean() < 0.7 * before[ground].mean()


def test_a_small_noisy_map_is_cleaned_on_the_photographs_grid() -> None:
    low = low_resolution()
    noise = noise_of(low + grain(low, 0.1), photograph(low, 4))
    assert noise is not None
    assert noise.shape[-1] == 4 * low.shape[-1]
    cleaned = without(noise, low + grain(low, 0.1))
    assert (cleaned - enlarged(low, 4)).abs().mean() < 0.6 * grain(low, 0.1).abs().mean()


@pytest.mark.parametrize("factor", [1, FACTOR])
def test_a_map_without_noise_stays_as_it_is(factor: int) -> None:
    low = low_resolution()
    assert noise_of(enlarged(low, factor), photograph(low, factor)) is None
    assert noise_of(torch.full((1, 1, 90, 120), 0.3), torch.rand(1, 3, 90, 120)) is None


def test_fine_structure_is_not_taken_for_noise() -> None:
    """Spokes and leaves change from pixel to pixel, but not everywhere."""
    depth = torch.zeros(1, 1, 120, 160)
    depth[..., 10:110:3, 20:90] = 0.8
    assert find_grain(depth).deviation == 0


def test_grains_are_as_wide_as_they_were_enlarged() -> None:
    found = [find_grain(enlarged(grain(torch.empty(1, 1, 90, 120)), factor)) for factor in (2, 8)]
    assert found[0].width < found[1].width
    assert all(0.01 < one.deviation < 0.05 for one in found)


def test_filled_holes_do_not_hide_the_noise() -> None:
    measured = torch.ones(1, 1, 90, 120, dtype=torch.bool)
    measured[..., :40] = False
    depth = grain(torch.empty(1, 1, 90, 120)).where(measured, 0)
    assert find_grain(depth).deviation < 0.01
    assert find_grain(depth, measured).deviation == pytest.approx(0.03, rel=0.1)
    # Nothing else is left to judge by.
    assert find_grain(depth, torch.zeros_like(measured)) == find_grain(depth)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (15, 200), (16, 16), (17, 33)])
def test_maps_of_any_size(size: tuple[int, int]) -> None:
    depth = grain(torch.empty(1, 1, *size))
    assert without(noise_of(depth, torch.rand(1, 3, *size)), depth).shape == depth.shape


def test_metres_are_refused() -> None:
    raw = {"kind": "refiner", "depth_space": "metres", "denoise": True, "coarse": {"channels": [8] * 6}}
    with pytest.raises(ConfigError, match="denoise works in depth_space: normalised-log only"):
        parse_model_config(raw, "test")


@pytest.fixture(scope="module")
def shipped() -> Refiner:
    return Refiner.from_pretrained(coarse=None, device="cpu")


def _with(refiner: Refiner, denoise: bool) -> Refiner:
    checkpoint: Checkpoint = refiner.checkpoint
    config = checkpoint.config.model_copy(update={"denoise": denoise})
    return Refiner(replace(checkpoint, config=config), device="cpu")


def test_the_shipped_refiner_takes_noise_out_and_bands_give_the_same(
    shipped: Refiner, tmp_path: Path
) -> None:
    low = low_resolution()
    true = enlarged(low).exp()[0, 0].numpy()
    noisy = enlarged(low + grain(low)).exp()[0, 0].numpy()
    shade = np.clip(110 - 80 * np.log(true), 0, 255).astype(np.uint8)
    rgb = np.repeat(shade[..., None], 3, axis=2)
    assert shipped.config.denoise
    found = shipped.refine(rgb, coarse_depth=noisy)
    kept = _with(shipped, False).refine(rgb, coarse_depth=noisy)
    ground = np.s_[480:]  # far from the edges, which are blurred in `true`
    errors = [float(np.abs(np.log(result.depth / true))[ground].mean()) for result in (found, kept)]
    assert errors[0] < 0.7 * errors[1]
    with DiskArray(rgb.shape, np.uint8, tmp_path) as on_disk:
        on_disk[:] = rgb
        with shipped.refine(on_disk, coarse_depth=noisy) as streamed:
            assert np.array_equal(np.asarray(streamed.depth[:]), found.depth)


def test_the_photograph_is_asked_for_where_noise_is_strong_alone() -> None:
    low = low_resolution()
    for amount, asked in ((0.0, 0), (0.1, 1)):
        seen: list[Tensor] = []

        def photographed(seen: list[Tensor] = seen) -> Tensor:
            seen.append(photograph(low, 1))
            return seen[-1]

        find_noise(low + grain(low, amount), (low.shape[-2], low.shape[-1]), photographed)
        assert len(seen) == asked


@pytest.mark.parametrize("size", [(900, 13), (10, 1200)])
def test_strong_grain_in_maps_with_more_rows_or_columns_than_the_grid(size: tuple[int, int]) -> None:
    """Such pixels cover no cell, however few they are: they are no means of cells."""
    noisy = F.interpolate(low_resolution(), size=size, mode="area")
    noisy += grain(noisy, 0.8)
    found = noise_of(noisy, photograph(low_resolution(), 4))
    assert found is not None
    assert torch.isfinite(found).all()
    assert float(without(found, noisy).std()) < float(noisy.std())
