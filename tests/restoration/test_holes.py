"""Holes of a coarse map: filled from what is valid, which stays as it is."""

from __future__ import annotations

import torch

from prv2cli.restoration.holes import fill_holes


def test_filling_keeps_valid_pixels_bit_for_bit() -> None:
    depth = torch.rand(1, 1, 37, 53) + 0.5
    valid = torch.rand(1, 1, 37, 53) > 0.4
    broken = torch.where(valid, depth, torch.full_like(depth, float("nan")))
    filled = fill_holes(broken, valid)
    assert torch.equal(filled[valid], depth[valid])
    assert filled.min() >= depth.min() - 1e-5
    assert filled.max() <= depth.max() + 1e-5


def test_one_valid_pixel_is_enough() -> None:
    depth = torch.zeros(1, 1, 9, 11)
    depth[0, 0, 3, 4] = 2.5
    assert torch.allclose(fill_holes(depth, depth > 0), torch.full_like(depth, 2.5))
