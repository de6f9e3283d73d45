"""The monocular Depth Anything 3 against reference vectors made with the authors' code.

`da3_vits` is the smallest network that the authors' configuration allows, `da3_vitl` the published size.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_rules import TOLERANCE, Golden, image, uniform
from torch import Tensor

from prv2cli.checkpoints.authors.da3 import convert_da3
from prv2cli.checkpoints.model_file import load_strictly
from prv2cli.model.coarse.da3 import SKY, Da3Coarse, fill_sky
from prv2cli.model.coarse.dinov2 import resize_positions
from prv2cli.model.config import Da3Config

VITS, VITL, PRE = Golden.load("da3_vits"), Golden.load("da3_vitl"), Golden.load("da3_pre")
AT_THE_THRESHOLD = 2  # pixels that rounding may move over it


@pytest.fixture(scope="module")
def small() -> Da3Coarse:
    config, tensors = convert_da3(VITS.state(), metric=True)
    model = Da3Coarse(config).eval()
    load_strictly(model, tensors)
    return model


def as_views(values: Tensor) -> Tensor:
    """(B, 1, h, w) of one view each -> (B, 1, h, w) as the authors count: batch, views, h, w."""
    return values.transpose(0, 1)


def misses(golden: Golden, name: str, full: Tensor) -> int:
    """How many stored pixels differ from the reference by more than rounding."""
    reference = golden.arrays[name]
    return int((np.abs(golden.stored(name, full) - reference) > TOLERANCE * np.abs(reference).max()).sum())


@torch.inference_mode()
def test_network(small: Da3Coarse) -> None:
    rgb = image(VITS.seed, (1, 1, 3, 140, 182))[0]
    for k, tokens in enumerate(small.read_tokens(rgb)):
        assert VITS.error(f"p140x182_tok{k}", tokens[None, :, 1:]) < TOLERANCE
    found = small.see(rgb)
    names = ("output_conv1", "refinenet1", "refinenet2", "refinenet3", "refinenet4", "layer4_rn")
    for name, feature in zip(names[1:], found.features[1:], strict=True):
        assert VITS.error(f"p140x182_{name}", feature) < TOLERANCE, name
    assert VITS.error("p140x182_depth_raw", as_views(found.depth)) < TOLERANCE
    assert VITS.error("p140x182_sky", as_views(found.sky)) < TOLERANCE
    out = small(rgb)
    assert misses(VITS, "p140x182_depth", as_views(out.depth)) <= AT_THE_THRESHOLD
    metres = as_views(out.depth) * (210 + 190) / 2 / 300
    assert misses(VITS, "p140x182_metric", metres) <= AT_THE_THRESHOLD


@torch.inference_mode()
def test_positions_at_other_grids(small: Da3Coarse) -> None:
    for rows, columns in ((10, 13), (27, 36)):
        found = resize_positions(small.vit.pos_embed, rows, columns)
        assert VITS.error(f"pos_embed_{rows}x{columns}", found) < TOLERANCE


@torch.inference_mode()
def test_two_views_at_once_share_the_depth_of_their_sky(small: Da3Coarse) -> None:
    """In the authors' call; as a coarse network each photograph has its own."""
    rgb = image(VITS.seed + 10, (1, 2, 3, 70, 98))[0]
    found = small.see(rgb)
    assert VITS.error("two_depth_raw", as_views(found.depth)) < TOLERANCE
    assert VITS.error("two_sky", as_views(found.sky)) < TOLERANCE
    together, _ = fill_sky(found.depth, found.sky)
    assert misses(VITS, "two_depth", as_views(together)) <= AT_THE_THRESHOLD
    out = small(rgb)
    for k in range(2):
        alone, sky = fill_sky(found.depth[k], found.sky[k])
        assert torch.equal(out.depth[k], alone)
        assert out.valid is not None
        assert torch.equal(out.valid[k], ~sky)
        assert not torch.equal(alone, together[k])


@torch.inference_mode()
def test_published_size() -> None:
    config, tensors = convert_da3(VITL.state(), metric=False)
    assert config == Da3Config(encoder="vitl", metric=False)
    assert sum(tensor.numel() for tensor in tensors.values()) == 334_171_394
    assert len(tensors) == 406
    model = Da3Coarse(config).eval()
    load_strictly(model, tensors)
    rgb = image(VITL.seed, (1, 1, 3, 98, 126))[0]
    found, out = model.see(rgb), model(rgb)
    for k, tokens in enumerate(model.read_tokens(rgb)):
        assert VITL.error(f"p98x126_tok{k}", tokens[None, :, 1:]) < TOLERANCE
    assert VITL.error("p98x126_refinenet1", found.features[1]) < TOLERANCE
    assert VITL.error("p98x126_depth_raw", as_views(found.depth)) < TOLERANCE
    assert VITL.error("p98x126_sky", as_views(found.sky)) < TOLERANCE
    assert misses(VITL, "p98x126_depth", as_views(out.depth)) <= AT_THE_THRESHOLD


SKIES = {
    "none": (0, 0.0),
    "ten": (10, 1.0),
    "eleven": (11, 1.0),
    "third": (400, 0.9),
    "threshold": (400, np.float32(0.3)),
    "below": (400, np.nextafter(np.float32(0.3), np.float32(0))),
    "all_but_10": (1190, 1.0),
    "all_but_11": (1189, 1.0),
}


@pytest.mark.parametrize("name", SKIES)
def test_depth_of_the_sky(name: str) -> None:
    """The quantile, the threshold, and how few pixels are left alone."""
    depth = uniform("sky_depth", PRE.seed, (1, 1, 30, 40), 1, 20)
    sky = uniform("sky_value", PRE.seed, (1, 1, 30, 40), 0, 0.29)
    order = uniform("sky_order", PRE.seed, (1200,), 0, 1).argsort(stable=True)
    count, value = SKIES[name]
    sky.view(-1)[order[:count]] = float(value)
    filled, where = fill_sky(depth, sky)
    assert PRE.error(f"sky_{name}", filled) < 1e-6
    acts = name in ("eleven", "third", "threshold", "all_but_11")
    assert int(where.sum()) == (count if acts else 0)
    assert torch.equal(filled[~where], depth[~where])


def test_sky_of_more_pixels_than_torch_can_take_a_quantile_of() -> None:
    depth = torch.linspace(0, 1, 2**24 + 100)
    sky = torch.zeros_like(depth)
    sky[:50] = SKY
    filled, where = fill_sky(depth, sky)
    assert int(where.sum()) == 50
    assert float(filled[0]) == pytest.approx(0.99, abs=1e-4)
