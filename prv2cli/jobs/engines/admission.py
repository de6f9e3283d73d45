"""Main memory for several photographs in the making: each is let in when there is room for it beside the others.

enter(photograph) ─ its needs from the header ─ wait while others hold the room ─ "memory" | "bands"
leave(photograph) ─ its outcome is known

What counts is the machine's free memory at the moment, less what those inside may still take. What they have taken
already is subtracted twice, so some room stays unused while memory is short; alone, a photograph has all of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from prv2cli.machine.memory import available_host_memory
from prv2cli.photo.header import Header
from prv2cli.refine.estimate import Memory, Way, choose_way, fits_in_memory

WAIT_SECONDS = 1.0  # between looks at the free memory, which other programs may give back, too
PATIENCE_SECONDS = 120.0  # for others of the same batch to give back what they hold of this process's share


class Closed(Exception):
    """Nobody is let in any more."""


class MemoryRoom:
    """The room of one batch. Thread-safe; one thread enters, any may leave."""

    def __init__(
        self, available: Callable[[], int] = available_host_memory, *, share: int | None = None
    ) -> None:
        """available: free bytes of main memory now. share: what of them is this process's, where several work."""
        self._available, self._share = available, share
        self._held: dict[Hashable, int] = {}
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, key: Hashable, header: Header, memory: Memory) -> Way:
        """Wait for room, and how the photograph is to be worked on, as estimate.choose_way has it.

            Bands, and refusal, are for what does not fit even alone.

        Raises:
            InputError: it does not fit, with the figures. Closed: the batch has ended.
        """
        patient_until = time.monotonic() + (PATIENCE_SECONDS if self._will_fit(memory) else 0)
        with self._changed:
            while (self._held or time.monotonic() < patient_until) and not self._closed:
                if self._fits(memory):
                    break
                self._changed.wait(WAIT_SECONDS)
            self.check_open()
            way = "memory" if self._held else choose_way(header, memory, self._free())
            self._held[key] = memory.photograph if way == "memory" else memory.in_bands
            return way

    def leave(self, key: Hashable) -> None:
        """Give the room of a photograph back; nothing happens where it has none."""
        with self._changed:
            self._held.pop(key, None)
            self._changed.notify_all()

    def check_open(self) -> None:
        """Raises Closed once the batch has ended."""
        if self._closed:
            raise Closed

    def close(self) -> None:
        """Let those that wait go, with Closed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, memory: Memory) -> bool:
        return fits_in_memory(memory, self._free() - sum(self._held.values()))

    def _free(self) -> int:
        free = self._available()
        return free if self._share is None else min(free, self._share)

    def _will_fit(self, memory: Memory) -> bool:
        """Whether it has room as soon as the others keep to their shares."""
        return self._share is not None and fits_in_memory(memory, self._share)
