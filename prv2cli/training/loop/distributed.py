"""One training run in several processes, as `torchrun` starts them (DDP): who takes part, and what they agree on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from prv2cli.errors import UsageError
from prv2cli.machine.devices import choose_device

# The others wait while the first process evaluates.
PATIENCE = timedelta(hours=3)


@dataclass(frozen=True)
class World:
    """The processes of a run. `rank` 0 logs, evaluates and saves; `local_rank` counts those of one machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Of its machine."""
        return self.local_rank == 0

    def everywhere(self, condition: bool, device: torch.device) -> bool:
        """Whether the condition holds in all processes."""
        if self.size == 1:
            return condition
        flag = torch.tensor(int(condition), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MIN)
        return bool(flag)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """The mean of each number over the processes."""
        if self.size == 1 or not values:
            return {name: float(value) for name, value in values.items()}
        numbers = torch.stack([value.detach().double() for value in values.values()])
        distributed.all_reduce(numbers)
        return dict(zip(values, (numbers / self.size).tolist(), strict=True))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def join_world(device: str) -> Iterator[tuple[World, torch.device]]:
    """This process's place and device; what torchrun says in the environment, or a world of one.

    Raises UsageError: a numbered device in a run of several processes, or processes that torchrun did not start.
    DeviceError.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), choose_device(device)
        return
    if ":" in device:
        raise UsageError(f"device: {device}: each of several processes takes its own; use auto, cuda or cpu")
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is {size} in the environment, but {missing[0]} is not set; start several processes by "
            "torchrun, or unset WORLD_SIZE"
        )
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = choose_device(f"cuda:{local_rank}")
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), local_rank), chosen
    finally:
        distributed.destroy_process_group()
