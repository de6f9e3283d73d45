"""Ranking: which pairs are drawn, and what their order costs."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from loss_cases import Maps, gradient
from torch import Tensor
from torch.nn import functional as F

from prv2cli.errors import MissingExtraError
from prv2cli.evaluation.metrics.edges import canny_edges
from prv2cli.training.losses.ranking import edge_guided_ranking, edge_pairs, random_pairs, ranking


def test_ranking_closed_form() -> None:
    label = torch.tensor([[[[1.0, 2.0], [2.04, 4.0]]]])
    depth = torch.tensor([[[[3.0, 2.0], [1.5, 1.0]]]])
    pairs = torch.tensor([[0, 1, 3, 1], [1, 0, 1, 2]])  # nearer, farther, farther, equal (2 %)
    costs = [
        math.log(1 + math.exp(3 - 2)),
        math.log(1 + math.exp(-(2 - 3))),
        math.log(1 + math.exp(-(1 - 2))),
        (2 - 1.5) ** 2,
    ]
    assert float(ranking(depth, label, [pairs])) == pytest.approx(sum(costs) / 4, rel=1e-6)
    assert float(ranking(5 * depth, label, [pairs], unit=5)) == pytest.approx(sum(costs) / 4, rel=1e-6)


def test_ranking_is_a_mean_over_images_and_one_without_pairs_costs_nothing() -> None:
    label, depth = torch.tensor([1.0, 2.0]).expand(2, 1, 1, 2), torch.tensor([2.0, 1.0]).expand(2, 1, 1, 2)
    pair, none = torch.tensor([[0], [1]]), torch.empty(2, 0, dtype=torch.long)
    both, half = ranking(depth, label, [pair, pair]), ranking(depth, label, [pair, none])
    assert float(half) == pytest.approx(float(both) / 2)
    assert ranking(depth, label, [none, none]) == 0


def test_ranking_survives_any_distance() -> None:
    label = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    wrong = torch.tensor([500.0, 1.0]).view(1, 1, 1, 2)
    slope = gradient(lambda p: ranking(p, label, [torch.tensor([[0], [1]])]), wrong)
    assert slope.flatten().tolist() == pytest.approx([1, -1])


@pytest.mark.parametrize("turned", [False, True], ids=["vertical edge", "horizontal edge"])
def test_edge_pairs_lie_beside_and_across_an_edge(turned: bool) -> None:
    """A straight edge at column 40: pairs keep their row, span 0 to 60 px, and a third of them crosses."""
    depth = torch.full((60, 80), 2.0)
    depth[:, 40:] = 5.0
    edges = torch.zeros(60, 80, dtype=torch.bool)
    edges[:, 40] = True
    if turned:
        depth, edges = depth.T.contiguous(), edges.T.contiguous()
    first, second = edge_pairs(depth, edges, torch.ones_like(edges), 500, torch.Generator().manual_seed(0))
    assert len(first) == 3 * 500
    width = depth.shape[1]
    places = [(index // width, index % width) for index in (first, second)]
    (row1, column1), (row2, column2) = [place[::-1] if turned else place for place in places]
    assert torch.equal(row1, row2)
    for columns in (column1, column2):
        assert ((columns - 40).abs() >= 2).all()
        assert ((columns - 40).abs() <= 30).all()
    crossing = (column1 < 40) & (column2 > 40)
    assert crossing.sum() == 500
    assert (column1 <= column2).all()
    assert set((column1 - 40).abs().tolist()) == set(range(2, 31))


def test_edge_pairs_keep_inside_the_image_and_the_mask() -> None:
    depth = torch.rand(20, 25, generator=torch.Generator().manual_seed(1)) + 1
    edges = torch.ones(20, 25, dtype=torch.bool)
    valid = torch.rand(20, 25, generator=torch.Generator().manual_seed(2)) > 0.3
    pairs = edge_pairs(depth, edges, valid, 2000, torch.Generator().manual_seed(0))
    assert 100 < pairs.shape[1] < 6000
    assert valid.flatten()[pairs].all()
    nothing = edge_pairs(depth, ~edges, valid, 10, torch.Generator())
    assert nothing.shape == (2, 0)


def test_random_pairs_are_valid_and_without_repetition() -> None:
    valid = torch.rand(20, 25, generator=torch.Generator().manual_seed(2)) > 0.7
    for count, expected in ((50, 50), (10_000, int(valid.sum()))):
        pairs = random_pairs(valid, count, torch.Generator().manual_seed(0))
        assert pairs.shape == (2, expected)
        assert valid.flatten()[pairs].all()
        assert all(len(row.unique()) == expected for row in pairs)
        assert not torch.equal(*pairs)


def test_the_generator_decides_the_pairs(maps: Maps) -> None:
    prediction, label, valid = maps
    edges = torch.ones_like(valid)

    def value(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return float(edge_guided_ranking(prediction, label, valid, generator, edges=edges, anchors=50))

    assert value(1) == value(1) != value(2)


def step_maps() -> tuple[Tensor, Tensor]:
    """A step in depth at column 32, and a blurred prediction of it."""
    label = torch.full((1, 1, 48, 64), 2.0)
    label[..., 32:] = 6.0
    return label, F.avg_pool2d(label, 17, stride=1, padding=8, count_include_pad=False)


def test_ranking_finds_the_edges_by_itself() -> None:
    pytest.importorskip("skimage")
    label, blurred = step_maps()
    valid = torch.ones_like(label, dtype=torch.bool)
    edges = torch.zeros_like(valid)
    edges[0, 0] = torch.from_numpy(canny_edges(label[0, 0].numpy()))
    assert set(edges[0, 0].nonzero()[:, 1].tolist()) <= {31, 32}
    assert edges.sum() > 40
    given, found = (
        edge_guided_ranking(blurred, label, valid, torch.Generator().manual_seed(0), edges=e, anchors=300)
        for e in (edges, None)
    )
    assert given == found
    sharp = edge_guided_ranking(
        label, label, valid, torch.Generator().manual_seed(0), edges=edges, anchors=300
    )
    assert sharp < 0.7 * found


def test_without_scikit_image_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    label, blurred = step_maps()
    valid = torch.ones_like(label, dtype=torch.bool)
    with pytest.raises(MissingExtraError, match=r"depth edges.*prv2cli\[train\]"):
        edge_guided_ranking(blurred, label, valid, torch.Generator())
