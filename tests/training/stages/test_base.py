"""The losses against the truth that stages share."""

from __future__ import annotations

from pathlib import Path

import torch
from training_loop import configured

from prv2cli.training.stages.base import truth_loss


def test_the_loss_does_not_depend_on_who_shares_the_batch(data: Path) -> None:
    torch.manual_seed(2)
    prediction, truth = torch.rand(2, 1, 8, 8) + 1, torch.rand(2, 1, 16, 16) + 1
    truth[1, :, :8] = 0
    config = configured(data, "refine", losses={"gradient_matching": 0})
    each = [truth_loss(p, t, config)[0] for p, t in zip(prediction.split(1), truth.split(1), strict=True)]
    assert torch.allclose(truth_loss(prediction, truth, config)[0], torch.stack(each).mean())
    pooled = configured(data, "refine", losses={"over": "batch"})
    assert not torch.allclose(truth_loss(prediction, truth, pooled)[0], torch.stack(each).mean())
