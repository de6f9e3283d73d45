"""How long a block takes, and how much memory there is at its peak: of the process, and of the device it works on."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from prv2cli.machine.memory import resident_memory

_EVERY = 0.005  # seconds between looks at the process's memory


@dataclass
class Spent:
    """What a block took: seconds, and peak bytes of the process and of a CUDA device (0 on others).

    processor: seconds of all processor cores together, which hardly depend on what else the machine does.
    """

    seconds: float = 0.0
    processor: float = 0.0
    process_peak: int = 0
    device_peak: int = 0


@contextmanager
def measured(device: torch.device) -> Iterator[Spent]:
    """Measure the block; the result is complete when it ends."""
    spent, done = Spent(), threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY):
            spent.process_peak = max(spent.process_peak, resident_memory())

    _give_back()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    spent.process_peak = resident_memory()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start, begun = time.perf_counter(), time.process_time()
    try:
        yield spent
    finally:
        if cuda:
            torch.cuda.synchronize(device)
            spent.device_peak = torch.cuda.max_memory_allocated(device)
        spent.seconds, spent.processor = time.perf_counter() - start, time.process_time() - begun
        done.set()
        watcher.join()
        spent.process_peak = max(spent.process_peak, resident_memory())


def _give_back() -> None:
    """Hand free memory back to the system, so that what came before is not counted again."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries have none
        if trim is not None:
            trim(0)
