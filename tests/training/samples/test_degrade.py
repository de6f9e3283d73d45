"""The degrader: coarse in effect, right on average, reproducible, and silent when told to do nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prv2cli.training.config.samples import DegradeConfig
from prv2cli.training.samples.degrade import degrade

SIDE = 128
SEEDS = range(12)
NOTHING = DegradeConfig(
    factor=(1.0, 1.0), blur=(0.0, 0.0), displacement=0.0, distortion=0.0, noise=0.0, drop_thin=0.0
)
ONLY_LOG, ONLY_INVERSE, ONLY_DEPTH = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def _scene() -> Tensor:
    """(1, 1, SIDE, SIDE) metres: a receding floor, two boxes, a disc, a pole of two pixels."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    depth = 12 - 8 * y / SIDE
    depth[20:70, 15:55] = 3
    depth[60:110, 70:100] = 2
    depth[(x - 95) ** 2 + (y - 30) ** 2 < 18**2] = 4.5
    depth[:, 62:64] = 1.5
    return depth[None, None].float()


def _spoil(config: DegradeConfig, seed: int = 0) -> Tensor:
    return degrade(_scene(), config, torch.Generator().manual_seed(seed)).depth


def _set(**changes: object) -> DegradeConfig:
    return NOTHING.model_copy(update=changes)


def _detail(depth: Tensor) -> float:
    """Mean squared step of log-depth between neighbours."""
    log_depth = depth.log()
    across, down = log_depth.diff(dim=-1), log_depth.diff(dim=-2)
    return float(across.square().mean() + down.square().mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_shape_type_and_range(seed: int) -> None:
    coarse = _spoil(DegradeConfig(), seed)
    assert coarse.shape == (1, 1, SIDE, SIDE)
    assert coarse.dtype == torch.float32
    assert torch.isfinite(coarse).all()
    assert coarse.min() > 0


@pytest.mark.parametrize(("height", "width"), [(37, 90), (16, 16), (5, 9)])
def test_odd_and_tiny_sizes(height: int, width: int) -> None:
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        depth = torch.rand(1, 1, height, width, generator=generator) + 1
        coarse = degrade(depth, DegradeConfig(), generator).depth
        assert coarse.shape == (1, 1, height, width)
        assert torch.isfinite(coarse).all()


def test_extreme_ranges_stay_positive_and_finite() -> None:
    depth = torch.full((1, 1, 64, 64), 400.0)
    depth[..., 20:40, 20:40] = 0.05
    for seed in range(40):
        coarse = degrade(depth, DegradeConfig(), torch.Generator().manual_seed(seed)).depth
        assert torch.isfinite(coarse).all()
        assert coarse.min() > 0


def test_the_generator_alone_decides() -> None:
    first = _spoil(DegradeConfig(), 4)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(first, _spoil(DegradeConfig(), 4))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, _spoil(DegradeConfig(), 5))


def test_input_is_left_alone() -> None:
    depth = _scene()
    degrade(depth, DegradeConfig(drop_thin=1.0), torch.Generator().manual_seed(0))
    assert torch.equal(depth, _scene())


@pytest.mark.parametrize("spaces", [ONLY_LOG, ONLY_INVERSE, ONLY_DEPTH])
def test_nothing_asked_nothing_done(spaces: tuple[float, float, float]) -> None:
    for seed in SEEDS:
        torch.testing.assert_close(_spoil(_set(spaces=spaces), seed), _scene(), rtol=1e-4, atol=0)


def test_low_resolution_in_effect() -> None:
    for seed in SEEDS:
        assert _detail(_spoil(DegradeConfig(), seed)) < 0.25 * _detail(_scene())


def test_a_larger_factor_and_more_blur_lose_more() -> None:
    mild = _spoil(_set(factor=(4.0, 4.0)))
    assert _detail(_spoil(_set(factor=(16.0, 16.0)))) < _detail(mild)
    assert _detail(_spoil(_set(factor=(4.0, 4.0), blur=(1.3, 1.3)))) < _detail(mild)


def test_mean_log_depth_is_kept_in_log_space() -> None:
    """Resampling and blur keep it; distortion moves it by twice its share of the spread at most."""
    spread = float(_scene().log().std())
    true_mean = float(_scene().log().mean())
    quiet = DegradeConfig(distortion=0.0, noise=0.0, drop_thin=0.0, spaces=ONLY_LOG)
    distorted = quiet.model_copy(update={"distortion": 0.05})
    for seed in SEEDS:
        assert float(_spoil(quiet, seed).log().mean()) == pytest.approx(true_mean, abs=0.05 * spread)
        moved = abs(float(_spoil(distorted, seed).log().mean()) - true_mean)
        assert moved < (0.05 + 2 * 0.05) * spread


def test_averaging_in_a_space_pulls_edges_towards_its_side() -> None:
    """The mean of two surfaces lies nearer in inverse depth than in log, and nearer in log than in depth."""
    means = [
        _spoil(_set(factor=(8.0, 8.0), spaces=s)).log().mean() for s in (ONLY_INVERSE, ONLY_LOG, ONLY_DEPTH)
    ]
    assert means[0] < means[1] < means[2]


def test_thin_parts_are_lost_when_asked() -> None:
    depth = torch.full((1, 1, SIDE, SIDE), 10.0)
    depth[..., 60:62] = 2.0  # a pole, two pixels wide
    lost = kept = 0
    for seed in range(30):
        dropped = (
            degrade(depth, _set(drop_thin=1.0), torch.Generator().manual_seed(seed)).depth[..., 60:62].min()
        )
        lost += bool(dropped > 9.9)
        kept += bool(_keeps_pole(depth, seed))
    assert kept == 30
    assert 5 <= lost < 30  # everywhere in some maps, in patches or behind it (nothing to lose) in others


def _keeps_pole(depth: Tensor, seed: int) -> bool:
    return bool(degrade(depth, NOTHING, torch.Generator().manual_seed(seed)).depth[..., 60:62].max() < 2.1)


def test_displacement_moves_edges_by_a_part_of_a_low_resolution_pixel() -> None:
    """The pole's place, measured on each row, stays within three standard deviations of the largest shift."""
    factor, displacement = 8.0, 0.25
    depth = torch.full((1, 1, SIDE, SIDE), 10.0)
    depth[..., 60:68] = 2.0
    moved = 0.0
    for seed in SEEDS:
        config = _set(factor=(factor, factor), displacement=displacement, spaces=ONLY_LOG)
        weight = (
            (10 / degrade(depth, config, torch.Generator().manual_seed(seed)).depth).log().clamp_min(0)[0, 0]
        )
        place = (weight * torch.arange(SIDE)).sum(-1) / weight.sum(-1)
        moved = max(moved, float((place - 63.5).abs().max()))
    assert 0.5 < moved < 3 * displacement * factor


def test_noise_is_of_the_size_asked() -> None:
    spread = float(_scene().log().std())
    errors = [
        float((_spoil(_set(noise=0.03, spaces=ONLY_LOG), seed) / _scene()).log().std()) for seed in SEEDS
    ]
    assert 0.2 * 0.03 * spread < max(errors) < 1.2 * 0.03 * spread
