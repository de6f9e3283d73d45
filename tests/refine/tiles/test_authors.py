"""The authors' tiling without a network: what it draws, what it refuses, how it averages."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from prv2cli.errors import UsageError
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.refine.tiles import authors as paper


class Echo:
    """Stands in for a refiner: the tile's depth is its own red channel, which keeps count of the batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def refine_cropped(
        self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor], steeper: float = 1.0
    ) -> Tensor:
        self.batches.append(len(rgb))
        return rgb[:, :1]


def refine(mode: str, size: tuple[int, int], setup: paper.PaperSetup, seed: int = 0) -> tuple[Tensor, Echo]:
    image = torch.linspace(1, 2, size[1]).expand(1, 3, *size)
    coarse = CoarseOutput(torch.ones(1, 1, *setup.process), [torch.ones(1, 2, 8, 8)])
    echo = Echo()
    depth = paper.refine_paper(echo, image, coarse, setup, mode, random.Random(seed))  # type: ignore[arg-type]
    return depth, echo


@pytest.mark.parametrize(
    ("mode", "tiles", "size"),
    [("m1", 16, (128, 128)), ("m2", 49, (128, 128)), ("r8", 57, (160, 240)), ("r11", 57, (160, 240))],
)
def test_number_of_tiles_and_size_of_the_result(mode: str, tiles: int, size: tuple[int, int]) -> None:
    """rN runs whole batches only: r11 in batches of four is r8."""
    depth, echo = refine(mode, (160, 240), paper.PaperSetup(process=(32, 32)))
    assert depth.shape == (1, 1, *size)
    assert sum(echo.batches) == tiles


def test_a_known_map_comes_back() -> None:
    """Cut into tiles as large as the process size, averaged any number of times, a ramp stays itself."""
    depth, _ = refine("r12", (128, 128), paper.PaperSetup(process=(32, 32)))
    assert torch.allclose(depth[0, 0], torch.linspace(1, 2, 128).expand(128, 128), atol=1e-6)


def test_random_tiles_follow_the_seed() -> None:
    setup = paper.PaperSetup(process=(32, 32))
    first, again, other = (refine("r4", (160, 240), setup, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_blend_weights_are_a_soft_box() -> None:
    """Zero in the corners, one in the middle, symmetric; a wide tile is blurred by its height's sigma too."""
    for shape in ((64, 64), (48, 96), (96, 48)):
        weights = paper.blend_weights(*shape).numpy()
        assert weights.shape == shape
        assert weights.min() == 0
        assert weights.max() == 1 == weights[shape[0] // 2, shape[1] // 2]
        assert np.allclose(weights, weights[::-1, ::-1], atol=1e-6)


def test_a_photograph_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="width divisible by 4, not 241"):
        refine("m1", (160, 241), paper.PaperSetup(process=(32, 32)))
