"""What the loop is fed does not depend on workers, processes or interruptions; what cannot be used is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scene_runs import STAGE_CONFIGS, overrides
from torch import Tensor
from training_loop import CPU, configured
from training_runs import (
    write_photographs,
)

from prv2cli.errors import (
    InputError,
)
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.batches import _tell_unless_hung_up, batches
from prv2cli.training.loop.distributed import World
from prv2cli.training.samples.photos import PhotoSamples


def _batches(stage: str, cache: Path, done: int = 0, **changes: object) -> list[dict[str, Tensor]]:
    config = load_train_config(STAGE_CONFIGS[stage], overrides(cache, **changes))
    return list(batches(config, World(), CPU, lambda line: None, done=done))


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_samples_depend_on_seed_and_index_alone(cache: Path) -> None:
    """Not on the number of workers, nor on where a run was resumed."""
    here = _batches("refine", cache)
    elsewhere = _batches("refine", cache, **{"data.workers": 1})
    assert len(here) == len(elsewhere) == 3
    assert all(_same(a, b) for a, b in zip(here, elsewhere, strict=True))
    assert _same(_batches("refine", cache, done=2)[0], here[2])
    assert not _same(here[0], here[1])
    assert not torch.equal(_batches("refine", cache, seed=2)[0]["rgb"], here[0]["rgb"])


def _seeds(config: TrainConfig, world: World) -> list[list[int]]:
    """Of the samples of each batch of a process."""
    return [batch["seed"].tolist() for batch in batches(config, world, CPU, lambda line: None, done=0)]


def test_processes_share_the_samples_without_overlap(data: Path) -> None:
    config = configured(data, "coarse", batch_size=2, steps=2, accumulate=2)
    seeds = [_seeds(config, World(rank, 2)) for rank in range(2)]
    alone = _seeds(config.model_copy(update={"batch_size": 4}), World())
    for mine, others, whole in zip(*seeds, alone, strict=True):
        assert [mine[0], others[0], mine[1], others[1]] == whole


def test_broken_samples_are_told_once_and_skipped(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "data")
    (data / "images" / "01.png").write_bytes(b"no picture")
    (data / "depth" / "03.npy").unlink()
    told: list[str] = []
    config = configured(data, "refine", steps=8)
    assert len(list(batches(config, World(), CPU, told.append, done=0))) == 8
    assert sorted(message.partition(" ")[0] for message in told) == ["01", "03"]
    for path in (data / "images").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="20 samples in a row cannot be used"):
        PhotoSamples(config, 1)[0]


def test_a_worker_does_not_print_that_nobody_listens(capsys: Any) -> None:
    """As multiprocessing would, of a run that was stopped just then."""
    for error in (EOFError(), ConnectionResetError(104, "reset")):
        _tell_unless_hung_up(type(error), error, None)
    assert capsys.readouterr() == ("", "")
    _tell_unless_hung_up(ValueError, ValueError("a fault"), None)
    assert "ValueError: a fault" in capsys.readouterr().err
