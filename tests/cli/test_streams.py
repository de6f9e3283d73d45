"""stdin, stdout and stderr that are closed, full or of another encoding: done, or one line, and never a bug of prv2."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prv2cli.cli import app, streams
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.errors import InputError, OutputError, UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    """A depth file whose name not every encoding has."""
    path = tmp_path / "é ☃.npy"
    write_depth(path, np.ones((4, 4), np.float32), DepthMetadata(model="ő"))
    return path


def _shell(line: str, depth: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A line of a shell, where $prv2 is the program and $depth a depth file."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = {**os.environ, "PYTHONPATH": paths, "depth": str(depth), "PYTHONUTF8": "0", **environment}
    command = line.replace("$prv2", f"{sys.executable} -m prv2cli")
    return subprocess.run(["bash", "-c", command], capture_output=True, env=told, timeout=120)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "call",
    [
        '$prv2 info --json "$depth" > /dev/full',
        '$prv2 info "$depth" > /dev/full',
        "$prv2 --help > /dev/full",
        "$prv2 --version > /dev/full",
        '$prv2 convert "$depth" - > /dev/full',
    ],
)
def test_a_full_disk_under_stdout_is_one_line(call: str, depth: Path) -> None:
    done = _shell(call, depth)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith(b"error: ")
    assert b"no space left" in line


@pytest.mark.parametrize(
    "call",
    [
        '$prv2 info "$depth"',
        '$prv2 info "$depth" 2> /dev/full',
        '$prv2 info "$depth" 2>&-',
        '$prv2 info "$depth" >&-',
        '$prv2 info - < "$depth"',
        '$prv2 info <(cat "$depth")',
    ],
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_encoding_will_do(call: str, encoding: str, depth: Path) -> None:
    done = _shell(call, depth, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"depth" in done.stdout) == (">&-" not in call or "2>&-" in call)


@pytest.mark.parametrize("call", ["$prv2 refine - <&-", "$prv2 batch - -o out <&-"])
def test_no_stdin_is_one_line(call: str, depth: Path) -> None:
    done = _shell(call, depth)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert b"stdin" in line
    assert b"bug" not in line


class _Failing(io.StringIO):
    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def write(self, text: str) -> int:
        raise OSError(self.code, os.strerror(self.code))

    def flush(self) -> None:
        raise OSError(self.code, os.strerror(self.code))


def test_stderr_that_fails_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", _Failing(errno.EIO))
    streams.guard_streams()
    assert app._run(["info", "nowhere.npy"], debug=False) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EBADF])
def test_stdout_that_fails_says_so(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(sys, "stdout", _Failing(code))
    streams.guard_streams()
    with pytest.raises(OutputError, match="stdout: "):
        streams.emit("text")
    monkeypatch.setattr(sys, "stdout", _Failing(errno.EPIPE))
    streams.guard_streams()
    with pytest.raises(BrokenPipeError):
        streams.emit("text")


def test_closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    streams.guard_streams()
    streams.emit("text")
    assert streams.flush_stdout() is None
    with pytest.raises(InputError, match="stdin is closed"):
        streams.read_stdin()
    with pytest.raises(UsageError, match="stdout is closed"):
        streams.binary_stdout()


WORLD: list[tuple[BaseException, str]] = [
    (PermissionError(errno.EACCES, "Permission denied", "a\nb"), r"a\nb: Permission denied"),
    (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    (OSError("something of a library's"), "something of a library's"),
    (MemoryError(), "not enough memory"),
    (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), "surrogates"),
]


@pytest.mark.parametrize(("error", "words"), WORLD)
def test_what_the_world_does_is_no_bug(
    error: BaseException, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("prv2cli.depth_files.info.depth_info", fail)
    assert app._run(["info", "a.npy"], debug=False) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
