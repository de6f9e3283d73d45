"""What goes wrong in a loader's worker, as it was raised. PyTorch would make a page of traceback its message."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from prv2cli.data.procedural import Sample, collate
from prv2cli.errors import Prv2Error


class CarryingErrors(Dataset[Any]):
    """The samples of a data set; an error on purpose (Prv2Error) comes in place of its sample."""

    def __init__(self, samples: Dataset[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample | Prv2Error:
        try:
            return self._samples[index]
        except Prv2Error as error:
            return error


def collate_or_error(samples: list[Sample | Prv2Error]) -> dict[str, Any] | Prv2Error:
    """Join the samples of a batch; the first error among them instead, where there is one."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, Prv2Error):
            return sample
        good.append(sample)
    return collate(good)
