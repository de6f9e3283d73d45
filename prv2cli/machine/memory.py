"""How much main memory there is to be had: of the machine, and of the container or cluster job that we may be in.

Linux tells a process its control groups in /proc/self/cgroup: `0::/path` in the unified hierarchy (v2),
`N:memory:/path` in the older one (v1). Every group up to the root has a limit of its own, and the strictest counts.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_GROUPS = Path("/proc/self/cgroup")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's <malloc.h>
_LARGEST_KEPT = 32 << 20  # bytes: glibc's own limit, and a tile's largest tensor
_MOST_KEPT = 256 << 20
_NO_LIMIT = 1 << 60  # v1 writes a number of about 2^63 for none


def available_host_memory() -> int:
    """Bytes of main memory to be had without swapping, of this machine and of the container that we may be in."""
    machine = _available_on_the_machine()
    container = available_in_container()
    return machine if container is None else min(machine, container)


def resident_memory() -> int:
    """Bytes of main memory that this process holds now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the machine or of a device was exhausted. torch has a class for CUDA alone, else words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(some in str(error) for some in words)


def keep_freed_memory() -> None:
    """Let the process keep up to 256 MB of what it frees; nothing happens where the C library is not glibc.

    A network frees and takes the same few tensors again and again. glibc hands them back to the system each time,
    which clears every page anew: a twentieth of a photograph's time, and no less of a training step's.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune is not None:
        tune(_MMAP_THRESHOLD, _LARGEST_KEPT)
        tune(_TRIM_THRESHOLD, _MOST_KEPT)


def _available_on_the_machine() -> int:
    """Half of the total where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return 4 * 1024**3


def available_in_container(groups: Path = _GROUPS, root: Path = _ROOT) -> int | None:
    """Bytes that may still be taken, None where nothing limits them. Cached files count as free: they give way."""
    try:
        lines = groups.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    left = [found for line in lines for found in _of_line(line, root) if found is not None]
    return max(0, min(left)) if left else None


def _of_line(line: str, root: Path) -> Iterator[int | None]:
    number, controllers, path = [*line.split(":", 2), "", ""][:3]
    if number == "0" and not controllers:
        for group in _upwards(root, path):
            yield _left(group, "memory.max", "memory.current", "inactive_file")
    elif "memory" in controllers.split(","):
        for group in _upwards(root / "memory", path):
            yield _left(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The group and those around it. In a container the path is often the host's, and the root is the group itself."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:count])


def _left(group: Path, limit: str, used: str, cached: str) -> int | None:
    most = _number(group / limit)
    if most is None or most >= _NO_LIMIT:
        return None
    return most - (_number(group / used) or 0) + _cached_files(group / "memory.stat", cached)


def _number(path: Path) -> int | None:
    """The number in a file; None for `max`, or where there is no such file."""
    try:
        return int(path.read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError):
        return None


def _cached_files(stat: Path, key: str) -> int:
    try:
        fields = dict(
            line.split() for line in stat.read_text(encoding="ascii", errors="replace").splitlines()
        )
        return int(fields[key])
    except (OSError, ValueError, KeyError):
        return 0
