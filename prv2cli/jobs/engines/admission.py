"""Main memory for several photographs in the making: each is let in when there is room for it beside the others.

enter(photograph) ─ its needs from the header ─ wait while others hold the room ─ "memory" | "bands"
leave(photograph) ─ its outcome is known

What counts is the machine's free memory at the moment, less what those inside may still take. What they have taken
already is subtracted twice, so some room stays unused while memory is short; alone, a photograph has all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from prv2cli.machine.memory import available_host_memory
from prv2cli.photo.header import Header
from prv2cli.refine.estimate import Memory, Way, choose_way, fits_in_memory

WAIT_SECONDS = 1.0  # between looks at the free memory, which other programs may give back, too


class Closed(Exception):
    """Nobody is let in any more."""


class MemoryRoom:
    """The room of one batch. Thread-safe; one thread enters, any may leave."""

    def __init__(self, available: Callable[[], int] = available_host_memory) -> None:
        """`available`: free bytes of main memory now."""
        self._available = available
        self._held: dict[Hashable, int] = {}
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, key: Hashable, header: Header, memory: Memory) -> Way:
        """Wait for room, and how the photograph is to be worked on, as estimate.choose_way has it.

            Bands, and refusal, are for what does not fit even alone.

        Raises:
            InputError: it does not fit, with the figures. Closed: the batch has ended.
        """
        with self._changed:
            while self._held and not self._closed and not self._fits(memory):
                self._changed.wait(WAIT_SECONDS)
            self.check_open()
            way = "memory" if self._held else choose_way(header, memory, self._available())
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
        return fits_in_memory(memory, self._available() - sum(self._held.values()))
