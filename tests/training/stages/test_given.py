"""A refiner behind any coarse map: the pass at half size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scene_runs import STAGE_CONFIGS, overrides
from training_loop import CPU, first_batch

from prv2cli.training.config.load import load_train_config
from prv2cli.training.loop.trainer import Trainer
from prv2cli.training.stages.given import _reduce_depth
from prv2cli.training.stages.table import stage_of


@pytest.mark.parametrize(("share", "learns"), [(0, False), (1, True)])
def test_the_pass_at_half_size_learns_from_the_tiles_that_need_it(
    share: int, learns: bool, cache: Path, tmp_path: Path
) -> None:
    changes = {"refine.cascade_from": 0, "refine.smooth_until": 0}
    config = load_train_config(STAGE_CONFIGS["refine"], overrides(cache, **changes))
    batch = first_batch(config)
    batch["wide"] = torch.arange(len(batch["rgb"])) < share
    model = Trainer(config, tmp_path, CPU, lambda parts: None).model.train()
    statistics = [buffer.clone() for buffer in model.buffers()]
    output = stage_of(config).step(model, batch, 0.5, config)
    assert (float(output.parts["reduced"]) > 0) == learns
    assert all(part.training for part in model.modules())
    # One pass, that at full size, has left its trace in BatchNorm's statistics.
    counts = [b - a for a, b in zip(statistics, model.buffers(), strict=True) if a.dtype == torch.long]
    assert counts
    assert all(count == 1 for count in counts)


def test_depth_at_half_size_is_one_that_exists() -> None:
    depth = torch.tensor([[1.0, 9.0, 2.0, 2.0], [9.0, 9.0, 5.0, 2.0]])[None, None]
    assert _reduce_depth(depth).tolist() == [[[[9.0, 2.0]]]]
    assert _reduce_depth(depth.flip(-2)).tolist() == [[[[9.0, 2.0]]]]
    assert (
        _reduce_depth(torch.tensor([[1.0, 1.0], [9.0, 9.0]])[None, None]).item() == 1.0
    )  # half of a thin part
