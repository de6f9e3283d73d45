"""A coarse network by itself: the relative error."""

from __future__ import annotations

import math

import pytest
import torch

from prv2cli.training.stages.coarse import _relative_error


def test_the_relative_error_of_a_hopeless_pixel_grows_slowly() -> None:
    ratio = torch.tensor([0.0, math.log(2), -math.log(2), 2.0, 5.0], requires_grad=True)
    error = _relative_error(ratio)
    assert error.tolist() == pytest.approx(
        [0, 1, 0.5, math.e**2 - 1, math.e**2 - 1 + 3 * math.e**2], rel=1e-5
    )
    error.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad[-1] == pytest.approx(math.e**2, rel=1e-5)  # not e^5
