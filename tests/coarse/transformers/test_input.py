"""Photographs as image processors of transformers get them: large, deep, tiny, long."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from depth_families import BUILDERS, Families, check, dinov2, publish, scene
from torch import Tensor

from prv2cli.coarse.aspect import covering
from prv2cli.coarse.transformers.input import plan_input
from prv2cli.coarse.transformers.network import RELATIVE_RANGE
from prv2cli.resampling.area import shrink


def dpt_dinov2() -> tuple[Any, Any]:
    """As DINOv2's depth estimators: 256 channels for their projection; the photograph padded, not resized."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        backbone_config=dinov2(70, out_indices=[1, 2, 3, 4], reshape_hidden_states=False),
        neck_hidden_sizes=[6, 6, 8, 8],
        fusion_hidden_size=256,
        use_bias_in_fusion_residual=False,
        add_projection=True,
    )
    processor = DPTImageProcessor(
        do_resize=False,
        do_rescale=False,
        do_pad=True,
        size_divisor=14,
        image_mean=[123.675, 116.28, 103.53],
        image_std=[58.395, 57.12, 57.375],
    )
    return DPTForDepthEstimation(config), processor


@pytest.mark.parametrize("family", BUILDERS)
def test_deep_and_large_photographs(family: str, families: Families, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor gets little of a large photograph, area-averaged, in its range; 16 bits are used."""
    _, network = families(family)
    handed: list[Tensor] = []

    class Spy:
        def __call__(self, images: Tensor, **options: Any) -> Any:
            handed.append(images)
            return processor(images=images, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(processor, name)

    processor = network.processor
    monkeypatch.setattr(network, "processor", Spy())
    rgb = scene(700, 1050)
    deep = rgb.astype(np.uint16) * 257
    shallow_map, deep_map = network.predict(rgb), network.predict(deep)
    check(shallow_map, rgb)
    nominal = {
        "glpn": 480 * 640,
        "chmv2": 480 * 640,
        "tipsv2_dpt": 112 * 112,
        "depth_pro": 128 * 128,
        "dpt": 96 * 96,
        "zoedepth": 64 * 96,
    }.get(family, 70 * 105)
    assert handed[0].shape[-2] * handed[0].shape[-1] <= 4.1 * nominal
    assert handed[0].shape == handed[1].shape
    height, width = handed[1].shape[-2:]
    assert torch.equal(handed[1], shrink(deep, (height, width))[0] * 255)
    assert (handed[0] - handed[1]).abs().max() < 1.5  # 8-bit averages are rounded twice
    ratio = deep_map.values.log() - shallow_map.values.clamp_min(1e-9).log()
    assert ratio.abs().median() < 0.02


def test_sixteen_bits_are_not_cut(families: Families) -> None:
    """A photograph in the lowest 8 of 16 bits is nearly black, but not black: its depth follows its details."""
    _, network = families("depth_anything_metric")
    dim = scene().astype(np.uint16)
    assert network.predict(dim).values.std() > 0
    assert not torch.equal(network.predict(dim).values, network.predict(np.zeros_like(dim)).values)


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("size", [(1, 1), (3, 400), (90, 20), (40, 400)])
def test_tiny_photographs_and_strips(family: str, size: tuple[int, int], families: Families) -> None:
    rgb = scene(*size)
    check(families(family)[1].predict(rgb), rgb)


def test_long_photographs_stay_small(families: Families) -> None:
    """Panoramas are run in their aspect at four times the nominal width at most."""
    for family in ("depth_anything", "prompt_depth_anything", "zoedepth"):
        processor = families(family)[1].processor
        plan = plan_input(processor, (2000, 12000))
        assert plan.overrides["keep_aspect_ratio"] is False
        rows, columns = plan.overrides["size"]["height"], plan.overrides["size"]["width"]
        assert columns == 4 * max(processor.size["height"], processor.size["width"])
        assert columns / rows == pytest.approx(6, rel=0.03)
        assert plan.size == (2 * rows, 2 * columns)
    assert max(plan_input(families("glpn")[1].processor, (50, 10**6)).size) <= 4 * math.sqrt(480 * 640)


def test_covering_sizes() -> None:
    assert covering((3000, 4000), (384, 384)) == (384, 512)
    assert covering((4000, 3000), (384, 384)) == (512, 384)
    assert covering((100, 150), (384, 384)) == (100, 150)  # no larger than the photograph
    rows, columns = covering((100, 100_000), (384, 384))
    assert rows * columns <= 4.2 * 384**2
    assert columns / rows == pytest.approx(1000, rel=0.01)


def test_processors_that_do_not_resize(tmp_path: Path) -> None:
    """DINOv2's depth estimators: given multiples of a patch, nothing is left to pad, which would shift the map."""
    published = publish(dpt_dinov2(), tmp_path)
    network = published.network()
    rgb = scene(70, 98)
    coarse = network.predict(rgb)
    assert (coarse.kind, coarse.unit) == ("depth", "relative")
    expected = published.documented(rgb)
    assert expected.std() > 0.005 * expected.mean() > 0
    assert torch.allclose(coarse.values[0, 0], expected.clamp_min(expected.max() / RELATIVE_RANGE), rtol=1e-5)
    assert plan_input(network.processor, (64, 96)).size == (70, 98)
    check(network.predict(scene()), scene())
    large = plan_input(network.processor, (4000, 6000)).size
    assert large[0] * large[1] <= 1.05 * 480 * 640
    assert large[0] % 14 == large[1] % 14 == 0
