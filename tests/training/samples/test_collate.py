"""Samples become batches, and what other processes raise arrives as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_loop import CPU, configured
from training_runs import (
    write_photographs,
)

from prv2cli.errors import (
    Prv2Error,
    UsageError,
)
from prv2cli.training.loop.batches import batches
from prv2cli.training.loop.distributed import World
from prv2cli.training.samples.collate import BROKEN, collate, unpacked


def test_samples_say_what_could_not_be_used() -> None:
    batch = collate([{"a": torch.zeros(1), BROKEN: [("x", "why")]}, {"a": torch.ones(1)}])
    assert batch["a"].tolist() == [0, 1]
    assert batch[BROKEN] == [("x", "why")]


def test_a_killed_worker_is_told_and_other_errors_stay_what_they_are() -> None:
    def failing(message: str) -> Any:
        yield {"a": 1}
        raise RuntimeError(message)

    with pytest.raises(Prv2Error, match=r"killed.*sampling\.workers"):
        list(unpacked(failing("DataLoader worker (pid(s) 7) exited unexpectedly")))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        list(unpacked(failing("sizes do not match")))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_unit_is_one_line_from_a_worker_too(tmp_path: Path, workers: int) -> None:
    data = write_photographs(tmp_path / "data")
    config = configured(data, "refine", sampling={"workers": workers})
    config = config.model_copy(update={"data": config.data.model_copy(update={"scale": None})})
    with pytest.raises(UsageError, match=r"does not say its unit.*data\.scale 1") as caught:
        list(batches(config, World(), CPU, lambda line: None, done=0))
    assert "\n" not in str(caught.value)
