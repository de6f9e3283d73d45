"""Losses free of scale and shift, of whole tiles and in windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from loss_cases import GRADIENT, VALUE, Case, Maps, gradient
from torch import Tensor

from prv2cli.training.losses.detail import fit_scale_and_shift, ssi, ssigm


def test_ssi_and_ssigm(case: Case) -> None:
    assert case.close("ssi1_gm0", ssi(case.prediction, case.pseudo, case.valid))
    assert case.close("ssi1_gm1", ssigm(case.prediction, case.pseudo, case.valid))
    assert case.close("ssi1_gm1_lowres_pred", ssigm(case.small, case.pseudo, case.valid))
    error = case.gradient_error("ssi1_gm1_grad", lambda p: ssigm(p, case.pseudo, case.valid))
    assert error < GRADIENT


def test_scale_and_shift(case: Case) -> None:
    fit = fit_scale_and_shift(case.prediction, case.pseudo, case.valid)
    assert case.golden.error("scale", fit.scale) < VALUE
    assert case.golden.error("shift", fit.shift) < VALUE
    nothing = fit_scale_and_shift(case.prediction, case.pseudo, torch.zeros_like(case.valid))
    assert np.array_equal(nothing.scale.numpy(), case.golden.arrays["scale_emptymask"])
    assert np.array_equal(nothing.shift.numpy(), case.golden.arrays["shift_emptymask"])


@pytest.mark.parametrize("window", [None, 7, 16])
@pytest.mark.parametrize("loss", [ssi, ssigm], ids=["ssi", "ssigm"])
def test_scale_and_shift_do_not_matter(maps: Maps, loss: Callable[..., Tensor], window: int | None) -> None:
    prediction, target, valid = (t.double() if t.is_floating_point() else t for t in maps)
    expected = float(loss(prediction, target, valid, window=window))
    assert expected > 0.1
    scales = torch.tensor([0.02, 30.0], dtype=torch.float64)[:, None, None, None]  # each image its own
    assert float(loss(scales * prediction + 5, target, valid, window=window)) == pytest.approx(expected)
    assert float(loss(scales * target - 3, target, valid, window=window)) == pytest.approx(0, abs=1e-9)
    assert float(loss(prediction, 4 * target + 1, valid, window=window)) == pytest.approx(4 * expected)


def test_a_batch_of_one_and_the_authors_batch_give_the_same(maps: Maps) -> None:
    prediction, target, _ = maps
    valid = torch.ones_like(target, dtype=torch.bool)
    for loss in (ssi, ssigm):
        single = [loss(p[None], t[None], v[None]) for p, t, v in zip(prediction, target, valid, strict=True)]
        assert float(loss(prediction, target, valid)) == pytest.approx(float(sum(single)) / 2, rel=1e-5)


@pytest.mark.parametrize("window", [40, 50, 500])
def test_a_window_that_holds_the_image_is_the_image(maps: Maps, window: int) -> None:
    prediction, target, valid = (t[..., :40] for t in maps)
    for loss in (ssi, ssigm):
        assert loss(prediction, target, valid, window=window) == loss(prediction, target, valid)


@pytest.mark.parametrize("loss", [ssi, ssigm], ids=["ssi", "ssigm"])
def test_windows_are_fitted_one_by_one_and_cut_at_the_border(maps: Maps, loss: Callable[..., Tensor]) -> None:
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
    assert ssigm(prediction, target, valid) > 0.05
    assert ssigm(prediction, target, valid, window=8) == pytest.approx(0, abs=1e-5)


def test_a_flat_prediction_is_fitted_to_the_mean() -> None:
    """Flat up to rounding: the noise must not be scaled up to the target."""
    target = torch.rand(2, 1, 30, 30, generator=torch.Generator().manual_seed(0))
    prediction = torch.full_like(target, 7.3)
    prediction[0, 0, 0, 0] += 1e-6
    valid = torch.ones_like(target, dtype=torch.bool)
    fit = fit_scale_and_shift(prediction, target, valid)
    assert (fit.scale == 0).all()
    assert fit.shift.tolist() == pytest.approx(target.mean((1, 2, 3)).tolist())
    assert torch.isfinite(gradient(lambda p: ssigm(p, target, valid), prediction)).all()
