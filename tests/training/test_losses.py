"""Losses against values and gradients of the authors' code, closed forms, and what each of them must not see."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from golden_rules import Golden, uniform
from torch import Tensor
from torch.nn import functional as F

from prv2cli.errors import MissingExtraError
from prv2cli.training import losses

MIN_DEPTH, MAX_DEPTH = 1e-3, 80.0
VALUE = 1e-5  # relative: float32 sums in another order
GRADIENT = 2e-5  # of the largest


@pytest.fixture(params=[2, 4], ids=["seed2", "seed4"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(Golden.load(f"losses_s{request.param}"))


class Case:
    """The reference inputs: two maps of 48 x 64 px, a tenth of the truth missing, some of it beyond 80 m."""

    def __init__(self, golden: Golden) -> None:
        self.golden, self.values = golden, golden.meta["values"]
        shape = (2, 1, 48, 64)
        truth = self.draw("gt", shape, 0.5, 95.0)
        truth[self.draw("drop", shape, 0, 1) < 0.1] = 0
        known = torch.where(truth > 0, truth, 10.0)
        self.truth = truth
        self.prediction = self.draw("pred", shape, 0.5, 90.0) * np.float32(0.3) + known * np.float32(0.7)
        self.small = self.draw("pred_lr", (2, 1, 24, 32), 0.5, 90.0)
        self.extra = self.draw("addmask", shape, 0, 1) < 0.5
        self.coarse = self.draw("coarse", shape, 0.5, 90.0)
        self.pseudo = self.draw("pseudo", shape, 0.1, 5.0) + 0.05 * self.prediction
        self.valid = losses.usable_depths(truth, MIN_DEPTH, MAX_DEPTH)

    def draw(self, tag: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return uniform(tag, self.golden.seed, shape, low, high)

    def usable(self, also: Tensor) -> Tensor:
        return losses.usable_depths(self.truth, MIN_DEPTH, MAX_DEPTH, also)

    def close(self, name: str, got: Tensor) -> bool:
        return float(got) == pytest.approx(self.values[name], rel=VALUE)

    def gradient_error(self, name: str, loss: Callable[[Tensor], Tensor]) -> float:
        return self.golden.error(name, gradient(loss, self.prediction))


def gradient(loss: Callable[[Tensor], Tensor], prediction: Tensor) -> Tensor:
    leaf = prediction.clone().requires_grad_(True)
    loss(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


# --- the authors' values --------------------------------------------------------------------------------------


def test_silog(case: Case) -> None:
    assert case.close("silog", losses.silog(case.prediction, case.truth, case.valid))
    assert case.close("silog_beta0.5", losses.silog(case.prediction, case.truth, case.valid, beta=0.5))
    assert case.close("silog_lowres_pred", losses.silog(case.small, case.truth, case.valid))
    assert case.gradient_error("silog_grad", lambda p: losses.silog(p, case.truth, case.valid)) < GRADIENT


def test_gradient_matching_exact(case: Case) -> None:
    def loss(prediction: Tensor, valid: Tensor = case.valid) -> Tensor:
        return losses.gradient_matching(prediction, case.truth, valid, exact=True)

    assert case.close("gradmatch", loss(case.prediction))
    assert case.close("gradmatch_lowres_pred", loss(case.small))
    assert case.gradient_error("gradmatch_grad", loss) < GRADIENT


@pytest.mark.parametrize("name", ["silog", "gradmatch"])
def test_an_extra_mask_counts_unless_it_leaves_too_little(case: Case, name: str) -> None:
    def loss(valid: Tensor) -> Tensor:
        if name == "silog":
            return losses.silog(case.prediction, case.truth, valid)
        return losses.gradient_matching(case.prediction, case.truth, valid, exact=True)

    assert case.close(f"{name}_addmask", loss(case.usable(case.extra)))
    assert case.close(f"{name}_addmask_toofew", loss(case.usable(torch.zeros_like(case.extra))))


def test_error_aware_silog(case: Case) -> None:
    got = losses.error_aware_silog(case.prediction, case.truth, case.coarse, case.valid)
    assert case.close("ealoss", got)


def test_ssi_and_ssigm(case: Case) -> None:
    assert case.close("ssi1_gm0", losses.ssi(case.prediction, case.pseudo, case.valid))
    assert case.close("ssi1_gm1", losses.ssigm(case.prediction, case.pseudo, case.valid))
    assert case.close("ssi1_gm1_lowres_pred", losses.ssigm(case.small, case.pseudo, case.valid))
    error = case.gradient_error("ssi1_gm1_grad", lambda p: losses.ssigm(p, case.pseudo, case.valid))
    assert error < GRADIENT


def test_without_alignment(case: Case) -> None:
    assert case.close("ssi0_gm0", losses.masked_l1(case.prediction, case.pseudo, case.valid))
    assert case.close("ssi0_gm1", losses.gradient_matching(case.prediction, case.pseudo, case.valid))


def test_scale_and_shift(case: Case) -> None:
    fit = losses.fit_scale_and_shift(case.prediction, case.pseudo, case.valid)
    assert case.golden.error("scale", fit.scale) < VALUE
    assert case.golden.error("shift", fit.shift) < VALUE
    nothing = losses.fit_scale_and_shift(case.prediction, case.pseudo, torch.zeros_like(case.valid))
    assert np.array_equal(nothing.scale.numpy(), case.golden.arrays["scale_emptymask"])
    assert np.array_equal(nothing.shift.numpy(), case.golden.arrays["shift_emptymask"])


# --- every loss ---------------------------------------------------------------------------------------------


def ranked(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Edge-guided ranking with fixed pairs and edges, so that only its maps vary."""
    edges = torch.zeros_like(valid)
    edges[..., 20:22] = True
    generator = torch.Generator().manual_seed(0)
    return losses.edge_guided_ranking(prediction, target, valid, generator, edges=edges, anchors=200)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "silog": losses.silog,
    "error_aware_silog": lambda p, t, v: losses.error_aware_silog(p, t, 1.3 * t, v),
    "masked_l1": losses.masked_l1,
    "gradient_matching": losses.gradient_matching,
    "gradient_matching_exact": lambda p, t, v: losses.gradient_matching(p, t, v, exact=True),
    "ssi": losses.ssi,
    "ssi_windows": lambda p, t, v: losses.ssi(p, t, v, window=12),
    "ssigm": losses.ssigm,
    "ssigm_windows": lambda p, t, v: losses.ssigm(p, t, v, window=12),
    "ranking": ranked,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_loss_but_ranking = pytest.mark.parametrize(
    "loss", [f for name, f in LOSSES.items() if name != "ranking"], ids=[n for n in LOSSES if n != "ranking"]
)


@pytest.fixture
def maps() -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, truth (metres) and mask, (2, 1, 40, 50) each; a fifth invalid."""
    generator = torch.Generator().manual_seed(1)
    prediction, truth, drop = (torch.rand(2, 1, 40, 50, generator=generator) for _ in range(3))
    return 1 + 9 * prediction, 1 + 9 * truth, drop > 0.2


@every_loss
def test_a_difference_costs_and_has_a_gradient(
    maps: tuple[Tensor, Tensor, Tensor], loss: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> None:
    prediction, truth, valid = maps
    assert loss(prediction, truth, valid).shape == ()
    assert loss(prediction, truth, valid) > 0.01
    slope = gradient(lambda p: loss(p, truth, valid), prediction)
    assert torch.isfinite(slope).all() and slope.abs().sum() > 0
    assert (slope[~valid] == 0).all()


@every_loss
def test_what_is_masked_never_counts(
    maps: tuple[Tensor, Tensor, Tensor], loss: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> None:
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
    maps: tuple[Tensor, Tensor, Tensor], loss: Callable[[Tensor, Tensor, Tensor], Tensor], pixels: int
) -> None:
    prediction, truth, _ = maps
    valid = torch.zeros_like(truth, dtype=torch.bool)
    valid[1, 0, 5, 20 : 20 + pixels] = True
    value = loss(prediction, truth, valid)
    slope = gradient(lambda p: loss(p, truth, valid), prediction)
    assert torch.isfinite(value) and torch.isfinite(slope).all()
    if pixels < 2:
        assert value == 0 and (slope == 0).all()


@every_loss_but_ranking
def test_the_truth_costs_nothing(
    maps: tuple[Tensor, Tensor, Tensor], loss: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> None:
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


@pytest.mark.parametrize("window", [None, 7, 16])
@pytest.mark.parametrize("loss", [losses.ssi, losses.ssigm], ids=["ssi", "ssigm"])
def test_scale_and_shift_do_not_matter(
    maps: tuple[Tensor, Tensor, Tensor], loss: Callable[..., Tensor], window: int | None
) -> None:
    prediction, target, valid = (t.double() if t.is_floating_point() else t for t in maps)
    expected = float(loss(prediction, target, valid, window=window))
    assert expected > 0.1
    scales = torch.tensor([0.02, 30.0], dtype=torch.float64)[:, None, None, None]  # each image its own
    assert float(loss(scales * prediction + 5, target, valid, window=window)) == pytest.approx(expected)
    assert float(loss(scales * target - 3, target, valid, window=window)) == pytest.approx(0, abs=1e-9)
    assert float(loss(prediction, 4 * target + 1, valid, window=window)) == pytest.approx(4 * expected)


def test_silog_nearly_ignores_a_factor_and_a_gradient_an_offset(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    prediction, truth, valid = maps
    no_mean = losses.silog(prediction, truth, valid, beta=0)
    assert float(losses.silog(3 * prediction, truth, valid, beta=0)) == pytest.approx(
        float(no_mean), rel=1e-5
    )
    expected = float(losses.gradient_matching(prediction, truth, valid))
    assert float(losses.gradient_matching(prediction + 7, truth, valid)) == pytest.approx(expected, rel=1e-5)


# --- gradients and windows -----------------------------------------------------------------------------------


def test_gradient_matching_counts_both_axes_and_exact_only_one() -> None:
    truth = torch.zeros(1, 1, 6, 8)
    valid = torch.ones_like(truth, dtype=torch.bool)
    columns, rows = torch.arange(8.0).expand(1, 1, 6, 8), torch.arange(6.0)[:, None].expand(1, 1, 6, 8)
    across, down = 2 * 6 * 6 / 48, 2 * 4 * 8 / 48  # a slope of 1 differs by 2 over two pixels
    assert losses.gradient_matching(columns, truth, valid) == pytest.approx(across)
    assert losses.gradient_matching(rows, truth, valid) == pytest.approx(down)
    assert losses.gradient_matching(columns, truth, valid, exact=True) == 0
    assert losses.gradient_matching(rows, truth, valid, exact=True) == pytest.approx(down)


def test_a_batch_of_one_and_the_authors_batch_give_the_same(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    prediction, target, _ = maps
    valid = torch.ones_like(target, dtype=torch.bool)
    for loss in (losses.ssi, losses.ssigm):
        single = [loss(p[None], t[None], v[None]) for p, t, v in zip(prediction, target, valid, strict=True)]
        assert float(loss(prediction, target, valid)) == pytest.approx(float(sum(single)) / 2, rel=1e-5)


@pytest.mark.parametrize("window", [40, 50, 500])
def test_a_window_that_holds_the_image_is_the_image(maps: tuple[Tensor, Tensor, Tensor], window: int) -> None:
    prediction, target, valid = (t[..., :40] for t in maps)
    for loss in (losses.ssi, losses.ssigm):
        assert loss(prediction, target, valid, window=window) == loss(prediction, target, valid)


@pytest.mark.parametrize("loss", [losses.ssi, losses.ssigm], ids=["ssi", "ssigm"])
def test_windows_are_fitted_one_by_one_and_cut_at_the_border(
    maps: tuple[Tensor, Tensor, Tensor], loss: Callable[..., Tensor]
) -> None:
    """40 x 50 px in windows of 16: three rows and four columns of them, the last ones narrower."""
    prediction, target, valid = maps
    total, pixels = 0.0, 0
    for image in range(2):
        for y in range(0, 40, 16):
            for x in range(0, 50, 16):
                part = (slice(image, image + 1), slice(None), slice(y, y + 16), slice(x, x + 16))
                count = int(valid[part].sum())
                total += float(loss(prediction[part], target[part], valid[part])) * count
                pixels += count
    assert float(loss(prediction, target, valid, window=16)) == pytest.approx(total / pixels, rel=1e-5)


def test_windows_forgive_what_one_fit_cannot() -> None:
    """Detail right, scale wrong by another factor in every window."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 1, 32, 32, generator=generator) + 1
    factors = torch.rand(1, 1, 4, 4, generator=generator) + 0.5
    prediction = target * factors.repeat_interleave(8, 2).repeat_interleave(8, 3)
    valid = torch.ones_like(target, dtype=torch.bool)
    assert losses.ssigm(prediction, target, valid) > 0.05
    assert losses.ssigm(prediction, target, valid, window=8) == pytest.approx(0, abs=1e-5)


def test_a_flat_prediction_is_fitted_to_the_mean() -> None:
    """Flat up to rounding: the noise must not be scaled up to the target."""
    target = torch.rand(2, 1, 30, 30, generator=torch.Generator().manual_seed(0))
    prediction = torch.full_like(target, 7.3)
    prediction[0, 0, 0, 0] += 1e-6
    valid = torch.ones_like(target, dtype=torch.bool)
    fit = losses.fit_scale_and_shift(prediction, target, valid)
    assert (fit.scale == 0).all()
    assert fit.shift.tolist() == pytest.approx(target.mean((1, 2, 3)).tolist())
    assert torch.isfinite(gradient(lambda p: losses.ssigm(p, target, valid), prediction)).all()


# --- ranking -------------------------------------------------------------------------------------------------


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
    assert float(losses.ranking(depth, label, [pairs])) == pytest.approx(sum(costs) / 4, rel=1e-6)
    assert float(losses.ranking(5 * depth, label, [pairs], unit=5)) == pytest.approx(sum(costs) / 4, rel=1e-6)


def test_ranking_is_a_mean_over_images_and_one_without_pairs_costs_nothing() -> None:
    label, depth = torch.tensor([1.0, 2.0]).expand(2, 1, 1, 2), torch.tensor([2.0, 1.0]).expand(2, 1, 1, 2)
    pair, none = torch.tensor([[0], [1]]), torch.empty(2, 0, dtype=torch.long)
    both, half = losses.ranking(depth, label, [pair, pair]), losses.ranking(depth, label, [pair, none])
    assert float(half) == pytest.approx(float(both) / 2)
    assert losses.ranking(depth, label, [none, none]) == 0


def test_ranking_survives_any_distance() -> None:
    label = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    wrong = torch.tensor([500.0, 1.0]).view(1, 1, 1, 2)
    slope = gradient(lambda p: losses.ranking(p, label, [torch.tensor([[0], [1]])]), wrong)
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
    first, second = losses.edge_pairs(
        depth, edges, torch.ones_like(edges), 500, torch.Generator().manual_seed(0)
    )
    assert len(first) == 3 * 500
    width = depth.shape[1]
    places = [(index // width, index % width) for index in (first, second)]
    (row1, column1), (row2, column2) = [place[::-1] if turned else place for place in places]
    assert torch.equal(row1, row2)
    for columns in (column1, column2):
        assert ((columns - 40).abs() >= 2).all() and ((columns - 40).abs() <= 30).all()
    crossing = (column1 < 40) & (column2 > 40)
    assert crossing.sum() == 500
    assert (column1 <= column2).all()
    assert set((column1 - 40).abs().tolist()) == set(range(2, 31))


def test_edge_pairs_keep_inside_the_image_and_the_mask() -> None:
    depth = torch.rand(20, 25, generator=torch.Generator().manual_seed(1)) + 1
    edges = torch.ones(20, 25, dtype=torch.bool)
    valid = torch.rand(20, 25, generator=torch.Generator().manual_seed(2)) > 0.3
    pairs = losses.edge_pairs(depth, edges, valid, 2000, torch.Generator().manual_seed(0))
    assert 100 < pairs.shape[1] < 6000
    assert valid.flatten()[pairs].all()
    nothing = losses.edge_pairs(depth, ~edges, valid, 10, torch.Generator())
    assert nothing.shape == (2, 0)


def test_random_pairs_are_valid_and_without_repetition() -> None:
    valid = torch.rand(20, 25, generator=torch.Generator().manual_seed(2)) > 0.7
    for count, expected in ((50, 50), (10_000, int(valid.sum()))):
        pairs = losses.random_pairs(valid, count, torch.Generator().manual_seed(0))
        assert pairs.shape == (2, expected)
        assert valid.flatten()[pairs].all()
        assert all(len(row.unique()) == expected for row in pairs)
        assert not torch.equal(*pairs)


def test_the_generator_decides_the_pairs(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    prediction, label, valid = maps
    edges = torch.ones_like(valid)

    def value(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return float(losses.edge_guided_ranking(prediction, label, valid, generator, edges=edges, anchors=50))

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
    edges[0, 0] = torch.from_numpy(losses.canny_edges(label[0, 0].numpy()))
    assert set(edges[0, 0].nonzero()[:, 1].tolist()) <= {31, 32} and edges.sum() > 40
    given, found = (
        losses.edge_guided_ranking(
            blurred, label, valid, torch.Generator().manual_seed(0), edges=e, anchors=300
        )
        for e in (edges, None)
    )
    assert given == found
    sharp = losses.edge_guided_ranking(
        label, label, valid, torch.Generator().manual_seed(0), edges=edges, anchors=300
    )
    assert sharp < 0.7 * found


def test_without_scikit_image_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    label, blurred = step_maps()
    valid = torch.ones_like(label, dtype=torch.bool)
    with pytest.raises(MissingExtraError, match=r"depth edges.*prv2cli\[train\]"):
        losses.edge_guided_ranking(blurred, label, valid, torch.Generator())
