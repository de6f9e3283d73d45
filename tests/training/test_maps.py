"""Coarse maps of every kind: finite, of the scene's size, wrong at edges, at the map's own levels elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from prv2cli.model.depth_space import Affine
from prv2cli.training.config.samples import DegradeConfig
from prv2cli.training.config.scenes import MapsConfig
from prv2cli.training.maps.draw import KINDS, draw_map
from prv2cli.training.maps.network_faults import as_network
from prv2cli.training.maps.own_levels import at_own_levels
from prv2cli.training.maps.sensors import _SENSORS, sense

SIDE = 128
MADE = [kind for kind in KINDS if kind != "imitated"]


def _depth() -> Tensor:
    """(1, 1, SIDE, SIDE) metres: a receding floor, two boxes, a pole of two pixels."""
    y, _ = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    depth = 12 - 8 * y / SIDE
    depth[20:70, 15:55] = 3
    depth[60:110, 70:100] = 2
    depth[:, 62:64] = 1.5
    return depth[None, None].float()


def _rgb() -> Tensor:
    return (1 / _depth()).expand(-1, 3, -1, -1).contiguous()


def _settings(kind: str, **changes: object) -> MapsConfig:
    return MapsConfig(**{"spoilt": 0.0, kind: 1.0, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("inverse", [0.0, 1.0])
def test_every_kind_in_both_spaces(kind: str, inverse: float) -> None:
    maps = _settings(kind, inverse=inverse, eight_bits=0.5, jpeg=0.5, own_levels=True)
    spaces = set()
    for seed in range(6):
        made = draw_map(_rgb(), _depth(), maps, DegradeConfig(), np.random.default_rng(seed))
        assert made.coarse.shape == made.truth.shape == (1, 1, SIDE, SIDE)
        assert torch.isfinite(made.coarse).all()
        assert torch.isfinite(made.truth).all()
        assert made.blur >= 0
        spaces.add(isinstance(made.norm, Affine))
    assert inverse in spaces if kind != "sensor" else spaces


def test_a_map_stored_as_a_picture_has_few_levels() -> None:
    maps = _settings("sharp", inverse=1.0, eight_bits=1.0)
    made = draw_map(_rgb(), _depth(), maps, DegradeConfig(), np.random.default_rng(0))
    assert 4 < made.coarse.unique().numel() <= 256


def test_noise_is_taken_out_before() -> None:
    noisy = DegradeConfig(factor=(1, 1), blur=(0, 0), noise=0.2, noisy=1, drop_thin=0, displaced=0)
    rough = []
    for denoise in (False, True):
        maps = _settings("spoilt", denoise=denoise)
        made = [
            draw_map(_rgb(), _depth(), maps, noisy, np.random.default_rng(seed)).coarse for seed in range(6)
        ]
        rough.append(sum(float(one.diff(dim=-1).abs().median()) for one in made))
    assert rough[1] < 0.7 * rough[0]


def test_the_truth_at_the_maps_own_levels_has_the_true_edges() -> None:
    """A surface that the map has at another level, and an edge that it has two pixels off."""
    truth = torch.zeros(1, 1, SIDE, SIDE)
    truth[..., 60:] = 1.0
    coarse = torch.zeros_like(truth) - 0.1
    coarse[..., 62:] = 1.3
    found = at_own_levels(truth, coarse, 1.5)
    assert (found[..., :55] + 0.1).abs().max() < 0.03
    assert (found[..., 70:] - 1.3).abs().max() < 0.03
    assert (found[..., 60] - found[..., 59]).min() > 1.0  # the edge is the truth's


def test_where_nothing_is_wrong_nothing_is_asked_for() -> None:
    log_depth = _depth().log()
    assert (at_own_levels(log_depth, log_depth, 3.0) - log_depth).abs().max() < 1e-5


@pytest.mark.parametrize("number", range(len(_SENSORS)))
@pytest.mark.parametrize("seed", range(3))
def test_every_sensor(number: int, seed: int) -> None:
    depth = _depth()[0, 0].numpy()
    sensed = _SENSORS[number](depth, np.random.default_rng(seed))
    assert sensed.depth.shape == depth.shape
    assert np.isfinite(sensed.depth).all()
    assert sensed.unit >= 1
    ratio = np.abs(np.log(np.clip(sensed.depth, 1e-3, 1e4) / depth))
    assert 1e-4 < ratio.mean() < 0.7
    assert np.median(ratio) < 0.3


def test_sensors_are_drawn_by_chance_and_again_alike() -> None:
    depth = _depth()[0, 0].numpy()
    drawn = [sense(depth, np.random.default_rng(seed)) for seed in range(8)]
    assert len({one.unit for one in drawn}) > 3
    assert all((one.depth > 0).all() for one in drawn)
    assert np.array_equal(drawn[3].depth, sense(depth, np.random.default_rng(3)).depth)


def test_a_networks_edges_are_nearly_sharp_and_in_the_wrong_place() -> None:
    depth, rgb = _depth()[0, 0].numpy(), _rgb()[0].permute(1, 2, 0).numpy()
    wrong, steep = [], []
    for seed in range(12):
        found = as_network(rgb, depth, np.random.default_rng(seed))
        assert found.depth.dtype == np.float32
        assert np.isfinite(found.depth).all()
        wrong.append(np.abs(np.log(found.depth / depth)).mean())
        steep.append(np.abs(np.diff(np.log(found.depth), axis=1)).max() * found.unit)
    assert 0.02 < np.mean(wrong) < 0.4
    assert np.mean(steep) > 0.6  # the boxes are 0.7 to 1.8 high


def test_shares_must_add_up(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must add up to 1"):
        MapsConfig(spoilt=0.5, sensor=0.2)
