"""The width of blurred edges, against Gaussian steps of known width."""

from __future__ import annotations

import pytest
import torch

from prv2cli.restoration.edge_width import edge_width


@pytest.mark.parametrize("sigma", [2.0, 4.0, 7.0])
def test_the_width_of_blurred_edges_is_found(sigma: float) -> None:
    x = torch.arange(160.0).expand(1, 1, 120, 160)
    edges = torch.erf((x - 60.3) / (sigma * 2**0.5)) + 0.5 * torch.erf((110 - x) / (sigma * 2**0.5))
    assert edge_width(edges) == pytest.approx(sigma, rel=0.1)
    assert edge_width(edges.transpose(2, 3)) == pytest.approx(sigma, rel=0.1)
    assert edge_width(torch.ones(1, 1, 30, 40)) == 0
    noise = 0.03 * torch.randn(edges.shape, generator=torch.Generator().manual_seed(0))
    assert edge_width(edges + noise) == pytest.approx(sigma, rel=0.15)
