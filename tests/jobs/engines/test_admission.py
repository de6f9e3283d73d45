"""The room of a worker that shares its machine with others: its share counts, and is waited for."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from prv2cli.errors import InputError
from prv2cli.jobs.engines import admission
from prv2cli.jobs.engines.admission import MemoryRoom
from prv2cli.photo.header import Header
from prv2cli.refine.estimate import Memory

HEADER = Header("a.png", "PNG", 100, 100, False, 40_000, 40_000)
NEEDS = Memory(in_memory=500_000_000, in_bands=50_000_000, disk=0, photograph=400_000_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", 20.0)


def test_what_others_hold_of_the_share_is_waited_for() -> None:
    free = [100_000_000]
    room = MemoryRoom(lambda: free[0], share=10**9)
    given_back = threading.Timer(0.2, lambda: free.__setitem__(0, 10**10))
    given_back.start()
    assert room.enter("a", HEADER, NEEDS) == "memory"
    assert not given_back.is_alive()


@pytest.mark.parametrize(("share", "way"), [(10**9, "memory"), (200_000_000, "bands"), (1_000_000, None)])
def test_the_memory_of_others_is_not_counted_on(share: int, way: str | None, monkeypatch: Any) -> None:
    """Nor waited for: what a share cannot hold is worked on in bands, or refused."""
    monkeypatch.setattr(admission.threading.Condition, "wait", lambda *_: pytest.fail("it waits"))
    room = MemoryRoom(lambda: 10**10, share=share)
    if way is None:
        with pytest.raises(InputError, match=r"a\.png: 100 x 100 needs 0\.5 GB"):
            room.enter("a", HEADER, NEEDS)
    else:
        assert room.enter("a", HEADER, NEEDS) == way
