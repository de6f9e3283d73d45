"""Samples from other processes: what is raised there arrives as it was; torch makes text of it, with a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import Dataset

from prv2cli.errors import Prv2Error
from prv2cli.training.samples.procedural import Sample, collate

_FAILED = "failed"  # in a sample or a batch: the error that came in its place


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
