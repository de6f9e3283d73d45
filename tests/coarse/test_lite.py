"""`lite` from photograph to depth: where it doubts its metres it gives none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prv2cli.coarse.lite import LiteNetwork, at_its_word
from prv2cli.coarse.load import load_coarse
from prv2cli.coarse.network import forward_per_size
from prv2cli.hub.resolve import resolve
from prv2cli.model.coarse.lite import LiteCoarse
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import LiteConfig
from prv2cli.photo.read import read_photo

CPU = torch.device("cpu")


def network(doubt: float | None) -> LiteNetwork:
    """A small one with random weights, which says of every photograph that its scale may be off by `doubt`."""
    config = LiteConfig(
        encoder="test_efficientnet", width=8, long_side=64, doubt=doubt is not None, trusted=0.3
    )
    torch.manual_seed(0)
    module = LiteCoarse(config).eval()
    if module.to_doubt is not None and doubt is not None:
        torch.nn.init.zeros_(module.to_doubt.out.weight)
        torch.nn.init.constant_(module.to_doubt.out.bias, math.log(doubt))
    return LiteNetwork(module, config, CPU, "lite", "")


PHOTOS = [
    np.random.default_rng(k).integers(0, 256, (48, 60 + 4 * (k % 2), 3), dtype=np.uint8) for k in range(3)
]


@pytest.mark.parametrize(("doubt", "unit"), [(None, "metre"), (0.2, "metre"), (0.4, "relative")])
def test_depth_has_a_unit_unless_it_is_in_doubt(doubt: float | None, unit: str) -> None:
    found = network(doubt).predict(PHOTOS[0])
    assert found.unit == unit
    assert len(found.features) == 6
    assert (found.values > 0).all()


def test_what_is_measured_is_taken_at_its_word() -> None:
    doubting = network(0.4)
    before = doubting.predict(PHOTOS[0])
    after = at_its_word(doubting).predict(PHOTOS[0])
    assert (before.unit, after.unit) == ("relative", "metre")
    assert torch.equal(before.values, after.values)
    assert doubting.predict(PHOTOS[0]).unit == "relative"  # it itself goes on doubting


def test_the_doubt_changes_no_depth_and_is_each_photographs_own() -> None:
    without, with_doubt = network(None), network(0.2)
    module = with_doubt.module
    assert isinstance(module, LiteCoarse)
    assert module.to_doubt is not None
    module.load_state_dict(without.module.state_dict(), strict=False)
    torch.nn.init.constant_(module.to_doubt.out.bias, math.log(0.3))
    torch.nn.init.normal_(module.to_doubt.out.weight)
    expected = [without.predict(photo) for photo in PHOTOS]
    together = with_doubt.predict_many(PHOTOS)
    alone = [with_doubt.predict(photo) for photo in PHOTOS]
    for one, other, plain in zip(together, alone, expected, strict=True):
        assert torch.allclose(one.values, plain.values, rtol=1e-4)
        assert one.unit == other.unit
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one.features, other.features, strict=True))


def test_the_margin_is_as_what_lies_within() -> None:
    """The truth that it learnt from ends before the corners of its photographs; what the padding makes there goes."""
    found = network(None).predict(PHOTOS[0]).values
    for turned in (found, found.flip(-1), found.transpose(2, 3), found.transpose(2, 3).flip(-1)):
        assert torch.equal(turned[..., 0], turned[..., 2])
        assert torch.equal(turned[..., 1], turned[..., 2])
        assert not torch.equal(turned[..., 2], turned[..., 3])


def test_the_shipped_network_has_no_corners() -> None:
    rgb = read_photo(Path(__file__).parents[2] / "docs/images/demo.jpg").rgb
    log_depth = load_coarse(resolve("lite"), CPU).predict(rgb).values[0, 0].log()
    for turned in (log_depth, log_depth.flip(-1), log_depth.flip(-2), log_depth.flip(-1, -2)):
        assert float((turned[:6, :6] - turned[8, 8]).abs().max()) < 0.2


def test_the_mean_with_the_mirrored_photograph_has_no_side() -> None:
    both = network(None)
    both.config = both.config.model_copy(update={"mirrored": True})
    found, mirror = (
        both.predict(np.ascontiguousarray(photo)).values for photo in (PHOTOS[0], PHOTOS[0][:, ::-1])
    )
    assert torch.allclose(found, mirror.flip(-1), rtol=1e-4)
    assert not torch.allclose(found, network(None).predict(PHOTOS[0]).values, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "changes", "size"),
    [
        ((300, 400), {}, (192, 256)),
        ((118, 384), {}, (64, 256)),
        ((300, 400), {"pixels": 49152}, (192, 256)),
        ((118, 384), {"pixels": 49152}, (128, 384)),
        ((4000, 10), {"pixels": 49152}, (1024, 32)),
    ],
)
def test_a_photograph_is_shown_at_a_long_side_or_with_so_many_pixels(
    shape: tuple[int, int], changes: dict[str, int], size: tuple[int, int]
) -> None:
    assert LiteConfig.model_validate({"long_side": 256} | changes).input_size(*shape) == size


def test_each_photograph_gets_all_that_was_said_of_it() -> None:
    """By name, whatever the network leaves out; photographs of one size share a call."""
    calls = []

    def module(rgb: Tensor) -> CoarseOutput:
        calls.append(len(rgb))
        own = rgb.mean(dim=(1, 2, 3))
        whole = own.view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
        return CoarseOutput(whole, [whole, 2 * whole], valid=whole > 2, normals=whole, log_doubt=own)

    images = [torch.full((1, 3, 8, 8 + 8 * (k % 2)), float(k)) for k in range(5)]
    network: Any = module
    for k, out in enumerate(forward_per_size(network, images)):
        assert float(out.depth.mean()) == k
        assert [float(level.mean()) for level in out.features] == [k, 2 * k]
        assert out.valid is not None
        assert bool(out.valid.all()) == (k > 2)
        assert out.normals is not None
        assert out.normals.shape == (1, 1, 4, 4)
        assert out.log_doubt is not None
        assert out.log_doubt.tolist() == [k]
        assert out.focal is None
    assert calls == [3, 2]
