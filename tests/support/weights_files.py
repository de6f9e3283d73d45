"""What refusals of files of weights must say, and how much memory they may take."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from prv2cli.errors import CheckpointError

GIGABYTE = 10**9


def refused(read: Callable[[Path], object], path: Path, *words: str) -> None:
    """One error, in a line or two, that names the file."""
    with pytest.raises(CheckpointError) as caught:
        read(path)
    text = str(caught.value)
    assert path.name in text
    assert len(text.splitlines()) <= 2
    assert len(text) < 600
    assert all(word in text for word in words), text


def peak_memory() -> int:
    """The most that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
