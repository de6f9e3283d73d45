"""How many workers a Ray cluster takes, and how many of its CPUs each gets. Knows nothing of Ray but its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Bytes: a photograph of a dozen megapixels and the models, a pass of the largest registered coarse network (3.7 GB)
# included. A photograph that needs more waits for it in its worker, or is worked on in bands there.
MEMORY_PER_WORKER = 4 * 2**30


@dataclass(frozen=True)
class Layout:
    """`workers` with `cpus` (threads) and `gpus` each; the nodes have `room` for so many of them."""

    workers: int
    cpus: int
    gpus: int
    room: int


def plan_workers(
    nodes: Sequence[Mapping[str, float]], workers: int | None, jobs: int, *, gpus: bool
) -> Layout:
    """Lay workers out on nodes.

    Args:
        nodes: the resources of each node in Ray's words: CPU, GPU, memory (bytes).
        workers: how many; None = one for each GPU, or without GPUs one for each CPU that has the memory, at least one.
        jobs: how many there are; no more workers than that.
        gpus: whether a worker takes a whole GPU.

    Each gets as many CPUs as all of them can have, at least one.
    """
    wanted = sum(_most(node, gpus) for node in nodes) if workers is None else workers
    wanted = max(1, min(wanted, jobs))
    largest = max((int(node.get("CPU", 0)) for node in nodes), default=1)
    for cpus in range(largest, 0, -1):
        room = sum(_places(node, cpus, gpus) for node in nodes)
        if room >= wanted:
            return Layout(wanted, cpus, int(gpus), room)
    return Layout(wanted, 1, int(gpus), sum(_places(node, 1, gpus) for node in nodes))


def _most(node: Mapping[str, float], gpus: bool) -> int:
    places = _places(node, 1, gpus)
    return places if gpus else min(places, max(1, int(node.get("memory", 0) // MEMORY_PER_WORKER)))


def _places(node: Mapping[str, float], cpus: int, gpus: bool) -> int:
    places = int(node.get("CPU", 0) // cpus)
    return min(places, int(node.get("GPU", 0))) if gpus else places
