"""A refiner behind any coarse map: the smooth beginning, the pass at half size."""

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


@pytest.mark.parametrize(("progress", "counts"), [(0.1, False), (0.5, True)])
def test_the_weights_of_the_loss_count_from_the_end_of_the_smooth_beginning_on(
    progress: float, counts: bool, cache: Path, tmp_path: Path
) -> None:
    names = ("hard_weight", "drift_weight", "edge_weight")
    losses = []
    for weights in ((8, 0, 0), (2, 2, 0.5)):
        changes = {f"refine.{name}": weight for name, weight in zip(names, weights, strict=True)}
        course = {"refine.smooth_until": 0.25, "refine.cascade_from": 1}
        config = load_train_config(STAGE_CONFIGS["refine"], overrides(cache, **changes, **course))
        batch = first_batch(config)
        model = Trainer(config, tmp_path, CPU, lambda parts: None).model.eval()
        losses.append(float(stage_of(config).step(model, batch, progress, config).loss.detach()))
    assert (losses[0] != losses[1]) == counts


def test_depth_at_half_size_is_one_that_exists() -> None:
    depth = torch.tensor([[1.0, 9.0, 2.0, 2.0], [9.0, 9.0, 5.0, 2.0]])[None, None]
    assert _reduce_depth(depth).tolist() == [[[[9.0, 2.0]]]]
    assert _reduce_depth(depth.flip(-2)).tolist() == [[[[9.0, 2.0]]]]
    assert (
        _reduce_depth(torch.tensor([[1.0, 1.0], [9.0, 9.0]])[None, None]).item() == 1.0
    )  # half of a thin part
