"""What a sample is, and how samples are joined to a batch. What another process raises meanwhile arrives as it was.

By itself torch makes text of it, with a traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import Dataset

from prv2cli.errors import InputError, MissingExtraError, Prv2Error, UsageError

Sample = dict[str, Any]  # tensors that are joined along their first dimension, and BROKEN
BROKEN = "broken"  # in a sample or a batch: [(name, why)] of what could not be used on the way to it
MAX_BROKEN = 20  # samples in a row
T = TypeVar("T")
_FAILED = "failed"  # in a sample or a batch: the error that came in its place


def collate(samples: list[Sample]) -> dict[str, Any]:
    """Join the samples of a batch key by key."""
    batch: dict[str, Any] = {
        key: torch.cat([sample[key] for sample in samples]) for key in samples[0] if key != BROKEN
    }
    return {**batch, BROKEN: [told for sample in samples for told in sample.get(BROKEN, [])]}


class Carried(Dataset[Sample]):
    """The samples of a data set, and in the place of one that raises a Prv2Error a sample that holds it."""

    def __init__(self, samples: Dataset[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample:
        try:
            return self.samples[index]
        except Prv2Error as error:
            return {_FAILED: error}


def first_usable(draw: Callable[[], tuple[str, Callable[[], T]]]) -> tuple[T, list[tuple[str, str]]]:
    """What is read of the first sample that can be, and what could not be used on the way: (name, why).

    Args:
        draw: a sample's name and what reads it; another one at every call.

    Raises:
        InputError: too many in a row are broken. MissingExtraError, UsageError: as reading does; they would be the same
        for all of them.
    """
    broken: list[tuple[str, str]] = []
    for _ in range(MAX_BROKEN):
        name, read = draw()
        try:
            return read(), broken
        except (MissingExtraError, UsageError):
            raise
        except Prv2Error as error:
            broken.append((name, str(error)))
    raise InputError(f"{MAX_BROKEN} samples in a row cannot be used; the last: {broken[-1][1]}")


def join(samples: list[Sample]) -> dict[str, Any]:
    """`collate`, or the first error among the samples."""
    failed = [sample for sample in samples if _FAILED in sample]
    return failed[0] if failed else collate(samples)


def unpacked(batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches of a DataLoader over Carried that joins by `join`.

    Raises:
        Prv2Error: as a sample did, or where a worker was killed.
    """
    try:
        for batch in batches:
            if _FAILED in batch:
                raise batch[_FAILED]
            yield batch
    except RuntimeError as error:  # what a DataLoader raises, and nothing but its message tells why
        if "DataLoader worker" in str(error) and ("killed" in str(error) or "exited" in str(error)):
            raise Prv2Error(
                "a process that makes samples was killed, probably for want of memory; "
                "lower sampling.workers (data.workers with scenes) or batch_size"
            ) from error
        raise
