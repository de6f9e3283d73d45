"""PatchRefiner and the authors' second version: what runs, how often, and of which shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from prv2cli.bench.networks import Candidate
from prv2cli.bench.refiners import FUSION, AuthorsRefiner, HeavyRefiner, authors_config
from prv2cli.model.config import F2CConfig, RefinerConfig
from prv2cli.model.refiner.f2c import F2C

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
SMALL = F2CConfig(widths=(8,) * 6, decoder_widths=(8,) * 5)


class Counting(nn.Module):
    """A network that counts its calls."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.seen = module, list[tuple[int, ...]]()

    def forward(self, rgb: Tensor) -> Any:
        self.seen.append(tuple(rgb.shape))
        return self.module(rgb)


def tiles(count: int) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 3, 96, 128), torch.full((count, 1, 96, 128), 3.0)


def silent(module: nn.Module) -> None:
    """No residual from here on."""
    for name, parameter in module.named_parameters():
        if "to_residual" in name:
            parameter.data.zero_()


def test_the_coarse_network_sees_every_tile_again(tiny: Candidate) -> None:
    counting = Counting(tiny.module)
    heavy = HeavyRefiner(Candidate("x", tiny.network, counting, tiny.channels, (64, 64)), CPU, SMALL)
    whole = [torch.rand(1, c, 16, 24) for c in tiny.channels]
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
    rgb, depth = tiles(2)
    cropped = heavy.crop(whole, boxes, torch.tensor([0, 0]), (96, 128))
    assert [tuple(f.shape[-2:]) for f in cropped] == [(16, 24)] * 6
    refined = heavy.refine_cropped(rgb, depth, cropped)
    assert counting.seen == [(2, 3, 64, 64)]  # at the process size
    assert refined.shape == depth.shape
    assert (refined != depth).any()
    silent(heavy._head)
    torch.testing.assert_close(heavy.refine_cropped(rgb, depth, cropped), depth)


def test_the_authors_refiner_adds_to_the_coarse_depth() -> None:
    config = RefinerConfig.model_validate(
        {
            "depth_space": "metres",
            "align_corners": True,
            "coarse": {"kind": "external", "channels": [8] * 6},
            "c2f": {"widths": [8] * 6},
            "f2c": {"widths": [8] * 6, "decoder_widths": [8] * 5},
        }
    )
    authors = AuthorsRefiner([8] * 6, (64, 64), CPU, config)
    rgb, depth = tiles(1)
    features = [torch.rand(1, 8, 16, 24)] * 6
    assert (authors.refine_cropped(rgb, depth, features) != depth).any()
    silent(authors._network)
    torch.testing.assert_close(authors.refine_cropped(rgb, depth, features), depth)


def test_the_widths_are_the_published_ones() -> None:
    """Those of configs/paper; and PatchRefiner's fusion network behind ZoeDepth's features, counted."""
    zoedepth = (32, 256, 256, 256, 256, 256)
    path = ROOT / "configs" / "paper" / "refine-u4k-zoedepth-mobilenetv4.yaml"
    settings = yaml.safe_load(path.read_text("utf-8"))["model"]["refiner"]
    ours = authors_config(zoedepth).model_dump()
    published = RefinerConfig.model_validate({"kind": "refiner", **settings}).model_dump()
    for one in (ours, published):
        one["encoder"] = one["encoder"]["name"].partition(".")[
            0
        ]  # with which weights it starts is of no matter
    assert ours == published
    joined = sum(9 * (2 * c * w + (w + 2) * w) + 4 * w for c, w in zip(zoedepth, zoedepth, strict=True))
    decoded = 0
    for level, below in zip((4, 3, 2, 1, 0), (256,) * 5, strict=True):
        inputs = below + zoedepth[level] + 2
        decoded += 9 * (inputs * inputs + inputs * (256 if level else 32))
    fusion = F2C(FUSION, zoedepth, zoedepth, align_corners=True)
    assert sum(p.numel() for p in fusion.parameters()) == joined + decoded
