"""What control groups leave a process, read from trees as the kernel shows them."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prv2cli.machine import memory
from prv2cli.machine.memory import available_in_container


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("memory_", "memory.", 1)).write_text(f"{text}\n")


@pytest.fixture
def groups(tmp_path: Path) -> Callable[..., Path]:
    def say(*lines: str) -> Path:
        path = tmp_path / "cgroup"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return say


def test_the_unified_hierarchy(tmp_path: Path, groups: Callable[..., Path]) -> None:
    write(tmp_path, memory_max="max", memory_current=9)
    write(
        tmp_path / "pod" / "box",
        memory_max=1000,
        memory_current=700,
        memory_stat="anon 500\ninactive_file 100",
    )
    assert available_in_container(groups("0::/pod/box"), tmp_path) == 400


def test_the_strictest_group_counts(tmp_path: Path, groups: Callable[..., Path]) -> None:
    write(tmp_path / "pod", memory_max=500, memory_current=450)
    write(tmp_path / "pod" / "box", memory_max=1000, memory_current=100)
    assert available_in_container(groups("0::/pod/box"), tmp_path) == 50


def test_the_older_hierarchy(tmp_path: Path, groups: Callable[..., Path]) -> None:
    write(tmp_path / "memory", memory_limit_in_bytes=9223372036854771712, memory_usage_in_bytes=5)
    write(
        tmp_path / "memory" / "job",
        memory_limit_in_bytes=800,
        memory_usage_in_bytes=300,
        memory_stat="total_inactive_file 20",
    )
    assert available_in_container(groups("3:cpu,cpuacct:/job", "7:memory:/job", "0::/"), tmp_path) == 520


def test_a_path_of_the_host_falls_back_on_the_root(tmp_path: Path, groups: Callable[..., Path]) -> None:
    """As in a container that sees its own group as the root."""
    write(tmp_path, memory_max=600, memory_current=100)
    assert available_in_container(groups("0::/docker/0a1b2c"), tmp_path) == 500


@pytest.mark.parametrize("lines", [[], ["0::/"], ["nonsense"], ["7:memory:/job"]])
def test_no_limit(tmp_path: Path, groups: Callable[..., Path], lines: list[str]) -> None:
    assert available_in_container(groups(*lines), tmp_path) is None


def test_no_such_system(tmp_path: Path) -> None:
    assert available_in_container(tmp_path / "missing", tmp_path) is None


def test_more_is_used_than_allowed(tmp_path: Path, groups: Callable[..., Path]) -> None:
    write(tmp_path, memory_max=600, memory_current=900)
    assert available_in_container(groups("0::/"), tmp_path) == 0


def test_the_machines_memory_is_what_the_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_in_container", lambda: 12345)
    assert memory.available_host_memory() == 12345
    monkeypatch.setattr(memory, "available_in_container", lambda: 1 << 50)
    assert 0 < memory.available_host_memory() < 1 << 50
    monkeypatch.setattr(memory, "available_in_container", lambda: None)
    assert 0 < memory.available_host_memory() < 1 << 50


REUSED = """
import resource
import numpy as np
from prv2cli.machine.memory import keep_freed_memory
{call}
def use():
    kept = [np.ones(20 << 17) for _ in range(2)]  # 20 MB each
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc's allocator")
def test_freed_memory_is_used_again() -> None:
    def faults(call: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", REUSED.format(call=call)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults("keep_freed_memory()") < faults("") / 10
