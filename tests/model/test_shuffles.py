"""The quick shuffles give what torch's give, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from prv2cli.model.shuffles import pixel_shuffle, pixel_unshuffle

CASES = [(2, torch.float32), (4, torch.float32), (2, torch.bfloat16), (4, torch.float16), (3, torch.float32)]


@pytest.mark.parametrize(("factor", "dtype"), CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unshuffle_is_torchs(factor: int, dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = torch.randn(2, 5, 6 * factor, 4 * factor).to(dtype).contiguous(memory_format=layout)
    found = pixel_unshuffle(x, factor)
    assert torch.equal(found, F.pixel_unshuffle(x, factor))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("factor", "dtype"), CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_shuffle_is_torchs(factor: int, dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = torch.randn(2, 3 * factor**2, 6, 4).to(dtype).contiguous(memory_format=layout)
    found = pixel_shuffle(x, factor)
    assert torch.equal(found, F.pixel_shuffle(x, factor))
    assert found.is_contiguous()


@pytest.mark.parametrize("shuffle", [pixel_shuffle, pixel_unshuffle])
def test_gradients_pass(shuffle: object) -> None:
    x = torch.randn(1, 4, 4, 4, requires_grad=True)
    weights = torch.arange(64.0)
    assert callable(shuffle)
    (shuffle(x, 2).flatten() * weights).sum().backward()
    assert x.grad is not None
    assert sorted(x.grad.flatten().tolist()) == weights.tolist()
