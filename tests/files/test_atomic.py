"""Whole files or none: places that cannot be written to, full disks, kills, modes and links, through write_depth."""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from depth_maps import (
    KINDS,
    META,
    scene,
    skip_without_codec,
)

import prv2cli
from prv2cli.depth_files.ours import encode
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import OutputError
from prv2cli.files import atomic
from prv2cli.files.atomic import TEMP_SUFFIX, atomic_write, check_output, would_replace

ROOT = Path(prv2cli.__file__).parents[1]


def test_check_output(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_output(folder / "new.png")
    check_output(Path("/dev/null"))
    with pytest.raises(OutputError, match="mkdir -p"):
        check_output(folder / "none" / "a.png")
    with pytest.raises(OutputError, match="is a folder"):
        check_output(folder)
    (folder / "file").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_output(folder / "file" / "a.png")
    with pytest.raises(OutputError):
        check_output(Path("a\0b"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission"):
        check_output(folder / "a.png")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError("bug")])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_in_the_middle_leaves_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, existing: bool
) -> None:
    path = folder / "a.png"
    if existing:
        path.write_bytes(b"old")

    def half(file: Any, rows: Any, text: str) -> None:
        file.write(b"half a file")
        file.flush()
        (temp,) = (p for p in folder.iterdir() if p != path)
        assert temp.name.startswith(".")
        assert temp.name.endswith(TEMP_SUFFIX)
        assert str(os.getpid()) in temp.name
        raise failure

    monkeypatch.setitem(encode.ENCODERS, "png", half)
    wanted = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(wanted, match="no space left" if wanted is OutputError else None):
        write_depth(path, scene(), META)
    assert [p.name for p in folder.iterdir()] == (["a.png"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


@pytest.mark.parametrize(("fmt", "dtype"), KINDS)
def test_a_disk_that_takes_only_20_kB(folder: Path, fmt: str, dtype: Any) -> None:
    resource = pytest.importorskip("resource")
    skip_without_codec(fmt)
    path = folder / f"a.{fmt}"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OutputError, match=rf"a\.{fmt}: "):
            write_depth(path, scene(200, 200), META, dtype=dtype)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_dev_full() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OutputError, match="/dev/full: no space left"),
    ):
        write_depth(full, scene(), META, fmt="tif")
    with pytest.raises(OutputError, match="/dev/full: no space left"):
        write_depth(Path("/dev/full"), scene(), META, fmt="npy")


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_modes_and_links(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        write_depth(folder / "new.png", scene(), META)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "new.png").stat().st_mode) == 0o640
    (folder / "kept.png").touch(0o600)
    (folder / "link.png").symlink_to("kept.png")
    (folder / "dangling.png").symlink_to("made.png")
    write_depth(folder / "link.png", scene(), META)
    write_depth(folder / "dangling.png", scene(), META)
    assert stat.S_IMODE((folder / "kept.png").stat().st_mode) == 0o600
    for name in ("link.png", "dangling.png"):
        assert (folder / name).is_symlink()
        read_depth(folder / name)


def test_what_a_file_would_take_the_place_of(folder: Path) -> None:
    (folder / "file").touch()
    os.mkfifo(folder / "pipe")
    for name, target in (("link", "file"), ("dangling", "none"), ("circle", "circle")):
        (folder / name).symlink_to(target)
    assert all(would_replace(folder / name) for name in ("file", "link", "dangling", "circle"))
    assert not any(map(would_replace, (folder / "pipe", folder / "none", Path("/dev/null"))))


def test_a_long_name(folder: Path) -> None:
    write_depth(folder / ("é" * 125 + ".png"), scene(), META)  # 254 bytes


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *arguments]


def test_dev_stdout() -> None:
    code = """
import numpy as np; from pathlib import Path
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
write_depth(Path("/dev/stdout"), np.ones((3, 4), np.float32), DepthMetadata(), fmt="tif")
"""
    done = subprocess.run(python(code), capture_output=True, check=True)
    assert np.all(read_depth(io.BytesIO(done.stdout)).values == 1)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    code = """
import numpy as np; from pathlib import Path
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
path = Path(sys.argv[1])
while True:
    for value in (1, 2):
        write_depth(path, np.full((500, 500), value, np.float32), DepthMetadata())
"""
    path = tmp_path / "a.npy"
    for delay in (0.003, 0.017):
        path.unlink(missing_ok=True)
        process = subprocess.Popen(python(code, str(path)))
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        values = read_depth(path).values
        assert values.shape == (500, 500)
        assert values.min() == values.max()
    assert all(p == path or p.name.startswith(".") for p in tmp_path.iterdir())


def test_atomic_write_of_anything(folder: Path) -> None:
    with atomic_write(folder / "a.txt") as file:
        file.write(b"text")
    assert (folder / "a.txt").read_bytes() == b"text"


def test_a_file_of_another_container_is_not_taken_for_a_dead_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes are numbered anew: none of ours has that number, and yet it may live."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(os, "getpid", lambda: ended.pid)
    monkeypatch.setattr(atomic, "machine", lambda: "host pid:[1]")
    temp, file = atomic._open_temp(folder / "a.tif")
    file.close()
    monkeypatch.setattr(atomic, "machine", lambda: "host pid:[2]")
    assert atomic.remove_leftovers(folder) == 0
    monkeypatch.setattr(atomic, "machine", lambda: "host pid:[1]")
    assert atomic.remove_leftovers(folder) == 1
    assert not temp.exists()
