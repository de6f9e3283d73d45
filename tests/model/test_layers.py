"""Crops at their places, and the positive part."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from prv2cli.model.layers import crop_to_boxes, gelu, positive_part


def test_crop_of_the_whole_map_is_the_map() -> None:
    maps = torch.rand(2, 3, 5, 7)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4)
    assert torch.allclose(crop_to_boxes(maps, boxes, torch.tensor([1, 0]), (5, 7)), maps.flip(0), atol=1e-6)


def test_crop_samples_at_pixel_centres() -> None:
    ramp = ((torch.arange(8) + 0.5) / 8).expand(1, 1, 4, 8)  # the value is the position
    crop = crop_to_boxes(ramp, torch.tensor([[0.25, 0.0, 0.75, 1.0]]), torch.tensor([0]), (4, 16))
    assert torch.allclose(crop[0, 0, 0], 0.25 + (torch.arange(16) + 0.5) / 32, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_crops_in_half_precision_lie_where_they_should(dtype: torch.dtype) -> None:
    """Only the values are rounded: a ramp of a value per pixel tells the places."""
    ramp = torch.arange(448.0).expand(1, 1, 448, 448) / 448
    boxes, index = torch.tensor([[0.9, 0.9, 1.0, 1.0]]), torch.zeros(1, dtype=torch.long)
    exact = crop_to_boxes(ramp, boxes, index, (45, 45))
    half = crop_to_boxes(ramp.to(dtype), boxes, index, (45, 45))
    assert half.dtype == dtype
    assert torch.equal(half.float().diff().ge(0).all(), torch.tensor(True))
    assert (half.float() - exact).abs().max() <= 2 * torch.finfo(dtype).eps


def test_the_positive_part_lets_a_depth_at_zero_come_back() -> None:
    """Above 0 as a ReLU; a pixel below gets no more than the mean pixel above, and only upwards."""
    x = torch.tensor([-2.0, -1.0, 3.0, 1.0], requires_grad=True)
    depth = positive_part(x)
    assert torch.equal(depth, torch.tensor([0.0, 0.0, 3.0, 1.0]))
    depth.backward(torch.tensor([-50.0, 4.0, 0.5, -1.5]))
    assert torch.equal(x.grad, torch.tensor([-1.0, 0.0, 0.5, -1.5]))  # type: ignore[arg-type]
    x = torch.full((4,), -1.0, requires_grad=True)
    positive_part(x).backward(torch.tensor([-1e7, -1e7, 1e7, 0.0]))
    assert torch.equal(x.grad, torch.tensor([-0.25, -0.25, 0.0, 0.0]))  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_gelu_is_torchs(layout: torch.memory_format, dtype: torch.dtype, tolerance: float) -> None:
    x = torch.linspace(-6, 6, 2 * 8 * 6 * 10).view(2, 8, 6, 10).to(dtype).contiguous(memory_format=layout)
    mine, torchs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, exact = gelu(mine), F.gelu(torchs.double())
    assert found.is_contiguous(memory_format=layout)
    assert (found - exact).abs().max() < tolerance
    found.sum().backward()
    exact.sum().backward()
    assert mine.grad is not None
    assert torchs.grad is not None
    assert (mine.grad - torchs.grad).abs().max() < tolerance


def test_torch_is_given_gelu_in_the_order_of_the_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Elsewhere it takes nearly twice as long, see docs/speed.md.
    orders = []

    def seen(x: torch.Tensor) -> torch.Tensor:
        orders.append(x.is_contiguous())
        return x

    monkeypatch.setattr("torch.nn.functional.gelu", seen)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.rand(2, 8, 6, 10).contiguous(memory_format=layout)
        assert torch.equal(gelu(x), x)
    assert orders == [True, True]
