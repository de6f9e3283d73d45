"""What holds for every loss that has a mask: what counts, what does not, and how few pixels will do."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from loss_cases import Maps, gradient
from torch import Tensor

from prv2cli.training.losses.detail import ssi, ssigm
from prv2cli.training.losses.differences import gradient_matching, masked_l1
from prv2cli.training.losses.ranking import edge_guided_ranking
from prv2cli.training.losses.truth import silog


def ranked(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Edge-guided ranking with fixed pairs and edges, so that only its maps vary."""
    edges = torch.zeros_like(valid)
    edges[..., 20:22] = True
    generator = torch.Generator().manual_seed(0)
    return edge_guided_ranking(prediction, target, valid, generator, edges=edges, anchors=200)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "silog": silog,
    "masked_l1": masked_l1,
    "gradient_matching": gradient_matching,
    "gradient_matching_exact": lambda p, t, v: gradient_matching(p, t, v, exact=True),
    "ssi": ssi,
    "ssi_windows": lambda p, t, v: ssi(p, t, v, window=12),
    "ssigm": ssigm,
    "ssigm_windows": lambda p, t, v: ssigm(p, t, v, window=12),
    "ranking": ranked,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_loss_but_ranking = pytest.mark.parametrize(
    "loss", [f for name, f in LOSSES.items() if name != "ranking"], ids=[n for n in LOSSES if n != "ranking"]
)


@every_loss
def test_a_difference_costs_and_has_a_gradient(
    maps: Maps, loss: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> None:
    prediction, truth, valid = maps
    assert loss(prediction, truth, valid).shape == ()
    assert loss(prediction, truth, valid) > 0.01
    slope = gradient(lambda p: loss(p, truth, valid), prediction)
    assert torch.isfinite(slope).all()
    assert slope.abs().sum() > 0
    assert (slope[~valid] == 0).all()


@every_loss
def test_what_is_masked_never_counts(maps: Maps, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """The rows below 30 are masked: whatever they hold, NaN included, neither value nor gradient changes."""
    prediction, truth, valid = maps
    valid[..., 30:, :] = False
    expected, slope = loss(prediction, truth, valid), gradient(lambda p: loss(p, truth, valid), prediction)
    prediction[..., 30:, :], truth[..., 35:, :] = math.nan, math.nan
    assert loss(prediction, truth, valid) == expected
    assert torch.equal(gradient(lambda p: loss(p, truth, valid), prediction), slope)


@every_loss
@pytest.mark.parametrize("pixels", [0, 1, 2])
def test_hardly_any_valid_pixel(
    maps: Maps, loss: Callable[[Tensor, Tensor, Tensor], Tensor], pixels: int
) -> None:
    prediction, truth, _ = maps
    valid = torch.zeros_like(truth, dtype=torch.bool)
    valid[1, 0, 5, 20 : 20 + pixels] = True
    value = loss(prediction, truth, valid)
    slope = gradient(lambda p: loss(p, truth, valid), prediction)
    assert torch.isfinite(value)
    assert torch.isfinite(slope).all()
    if pixels < 2:
        assert value == 0
        assert (slope == 0).all()


@every_loss_but_ranking
def test_the_truth_costs_nothing(maps: Maps, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    _, truth, valid = maps
    assert loss(truth, truth, valid) == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(gradient(lambda p: loss(p, truth, valid), truth)).all()


@every_loss
def test_maps_smaller_than_a_gradient_or_a_window(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    for height, width in ((1, 1), (1, 5), (2, 2), (3, 1)):
        truth = torch.rand(1, 1, height, width) + 1
        assert torch.isfinite(loss(truth + 1, truth, torch.ones_like(truth, dtype=torch.bool)))


@every_loss_but_ranking
def test_gradients_agree_with_differences(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(3)
    prediction, truth = (1 + torch.rand(1, 1, 6, 7, generator=generator).double() for _ in range(2))
    valid = torch.rand(truth.shape, generator=generator) > 0.2
    prediction.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p: loss(p, truth, valid), (prediction,))
