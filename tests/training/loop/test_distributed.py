"""Several processes of one run."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from training_loop import CPU, configured, in_processes, losses_of
from training_runs import (
    REFINER,
    read_log,
    settings,
    write_config,
)
from zoedepth_settings import SETTINGS as ZOEDEPTH

from prv2cli.errors import (
    ConfigError,
    UsageError,
)
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.distributed import join_world
from prv2cli.training.run import fit


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
def test_two_processes_learn_what_one_with_twice_the_batch_does(data: Path, tmp_path: Path) -> None:
    """With ZoeDepth, some weights of which are never used. BatchNorm is frozen: each process sees half of a batch."""
    pytest.importorskip("transformers")
    zoe = {**ZOEDEPTH, "backbone_config": {**ZOEDEPTH["backbone_config"], "drop_path_rate": 0.0}}
    coarse = {"kind": "zoedepth", "transformers": zoe, "input_size": [64, 96]}
    refiner = {**REFINER, "coarse": {"kind": "external", "channels": [6, 12, 12, 12, 12, 12]}}
    model = {"process_size": [64, 96], "coarse": coarse, "refiner": refiner}
    changes: dict[str, Any] = {"steps": 3, "batchnorm": "frozen", "model": model}
    config = write_config(tmp_path / "pair.yaml", data, "refine", batch_size=2, **changes)
    in_processes("pair", tmp_path / "pair", config)
    together = losses_of(configured(data, "refine", batch_size=4, **changes), tmp_path / "one")
    pair = [line["loss"] for line in read_log(tmp_path / "pair")]
    assert pair == pytest.approx(together, rel=1e-5)
    assert len(set(pair)) == 3
    resumed = TrainConfig.model_validate(settings(data, "refine", batch_size=2, **changes))
    with pytest.raises(ConfigError, match=r"has 2 process\(es\), not 1"):
        fit(resumed, tmp_path / "pair", device=CPU, resume=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
def test_a_loss_that_is_nan_in_one_process_is_skipped_by_all(data: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 4, "accumulate": 2, "batchnorm": "frozen"}
    in_processes("spoilt", tmp_path / "run", write_config(tmp_path / "run.yaml", data, "refine", **changes))
    log = read_log(tmp_path / "run")
    assert ["loss" in line for line in log] == [True, False, True, True]
    assert log[1]["skipped"] == 1
    assert all(math.isfinite(line["loss"]) for line in log if "loss" in line)


def test_several_processes_are_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"WORLD_SIZE is 2 .*RANK is not set; .*torchrun"), join_world("cpu"):
        pytest.fail("there is no second process")
