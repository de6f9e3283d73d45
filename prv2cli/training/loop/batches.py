"""What the loop is fed: the batches of a process, in the order that its place among the processes gives.

Step s takes samples s * G .. (s + 1) * G - 1 of the run, G = batch_size * accumulate * W, dealt to the W processes in
turn; sample i and what is drawn for it depend on the seed and i alone. So W processes learn what one would with W times
the batch, and resuming is skipping.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import TracebackType

import torch
from torch.utils.data import DataLoader, Subset

from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.distributed import World
from prv2cli.training.samples.collate import BROKEN, Carried, join, unpacked
from prv2cli.training.stages.table import Batch, stage_of

Tell = Callable[[str], None]


def samples_per_step(config: TrainConfig, world: World) -> int:
    """In all processes."""
    return config.batch_size * config.accumulate * world.size


def steps(
    config: TrainConfig, world: World, device: torch.device, tell: Tell, *, done: int
) -> Iterator[list[Batch]]:
    """The batches of each step still to do, on the device.

    Args:
        tell: called with a line for each sample that could not be used, once.
        done: steps that have been taken.
    """
    of_one_step: list[Batch] = []
    for batch in batches(config, world, device, tell, done=done):
        of_one_step.append(batch)
        if len(of_one_step) == config.accumulate:
            yield of_one_step
            of_one_step = []


def batches(
    config: TrainConfig, world: World, device: torch.device, tell: Tell, *, done: int
) -> Iterator[Batch]:
    """The same one by one."""
    together = samples_per_step(config, world)
    samples = stage_of(config).samples(config, config.total_steps * together)
    mine = range(done * together + world.rank, config.total_steps * together, world.size)
    loader = DataLoader(
        Subset(Carried(samples), mine),
        batch_size=config.batch_size,
        num_workers=config.workers,
        collate_fn=join,
        worker_init_fn=_begin_worker,
        persistent_workers=False,
        pin_memory=device.type == "cuda",
        multiprocessing_context="spawn" if config.workers else None,
    )
    told: set[str] = set()
    for batch in unpacked(loader):
        _tell_broken(batch.pop(BROKEN), told, tell)
        moved = {key: tensor.to(device, non_blocking=True) for key, tensor in batch.items()}
        seen = "image" if config.on_mixture else "rgb"
        if config.channels_last and seen in moved:
            moved[seen] = moved[seen].contiguous(memory_format=torch.channels_last)
        yield moved


def _tell_broken(broken: list[tuple[str, str]], told: set[str], tell: Tell) -> None:
    """Each sample that could not be used, once."""
    for name, why in broken:
        if name not in told:
            told.add(name)
            tell(f"{name} is left out: {why}")


def _begin_worker(_number: int) -> None:
    """In a process that makes samples."""
    torch.set_num_threads(1)
    sys.excepthook = _tell_unless_hung_up


def _tell_unless_hung_up(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What goes wrong with a sample arrives with it. multiprocessing prints here that nobody takes any more of them,
    as where a run was stopped, which says so itself."""
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)
