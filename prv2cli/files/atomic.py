"""Whole files or none: bytes go to a hidden temporary file beside the target, which then takes its place.

    check_output(path)      before any work: can this place be written to?
    atomic_write(path)      with atomic_write(path) as file: file.write(...)

An interrupted or failed write leaves the old file as it was. Only a killed process can leave something
behind: a hidden file that ends in `.prv2tmp`. Devices and pipes (`/dev/stdout`) cannot be renamed over: they
get the bytes once all of them are made. A symbolic link is written through to the file that it names.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from prv2cli.errors import DiskFullError, OutputError
from prv2cli.files.text import first_line, shown

TEMP_SUFFIX = ".prv2tmp"
_DAY = 86400.0  # seconds
_STREAM_PREFIXES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")


def check_output(path: Path) -> None:
    """Refuse a place that cannot be written to, before any work is spent on what would go there.

    Raises OutputError naming the path and the fix: a folder, a missing parent folder, no permission.
    """
    name = shown(path)
    try:
        if path.is_dir():
            raise OutputError(f"{name} is a folder; name a file in it")
        if _is_stream(path):
            return
        real = Path(os.path.realpath(path))
        folder = shown(real.parent)
        if not real.parent.exists():
            raise OutputError(f"{name}: its folder does not exist; make it first: mkdir -p '{folder}'")
        if not real.parent.is_dir():
            raise OutputError(f"{name}: {folder} is a file, not a folder; write elsewhere")
        if not os.access(real.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{name}: no permission to write in {folder}; write elsewhere")
        if real.exists() and not os.access(real, os.W_OK):
            raise OutputError(f"{name}: the existing file is read-only; remove it or write elsewhere")
    except (OSError, ValueError) as exc:  # ValueError: a NUL byte in the name
        raise output_error(path, exc) from exc


def would_replace(path: Path) -> bool:
    """Whether something lies at `path` that a file written there takes the place of, a link too."""
    with suppress(OSError):  # a link in a circle
        return os.path.lexists(path) and not _is_stream(path)
    return True


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, and vanishes when it raises.

    The file reads, writes and seeks. For a regular target its `.name` is the temporary path. OSError becomes
    OutputError; anything else passes through. The umask holds for new files, an existing file keeps its mode.
    """
    try:
        if _is_stream(path):
            yield from _write_stream(path)
        else:
            yield from _write_and_rename(Path(os.path.realpath(path)))
    except OSError as exc:
        raise output_error(path, exc) from exc


def output_error(target: object, exc: BaseException) -> OutputError:
    """The one-line OutputError for an exception raised while writing `target`."""
    target, code = shown(target), getattr(exc, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{target}: no space left on the device; free some space or write elsewhere")
    if code == errno.EPIPE:
        reason = "the reading program has closed the pipe"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "no permission to write there; write elsewhere"
    elif code is not None:
        reason = f"cannot be written: {os.strerror(code)}"
    else:
        reason = f"cannot be written: {shown(first_line(exc))}"
    return OutputError(f"{target}: {reason}")


def _is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe or the like, which takes bytes but cannot be replaced by a file."""
    if str(path).startswith(_STREAM_PREFIXES):
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _write_stream(path: Path) -> Iterator[BinaryIO]:
    buffer = io.BytesIO()
    yield buffer
    with path.open("ab") as stream:  # "ab": `prv2 ... -o /dev/stdout >> file` must not cut the file
        stream.write(buffer.getbuffer())


def _write_and_rename(path: Path) -> Iterator[BinaryIO]:
    temp, file = _open_temp(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the rename must not reach the disk before the bytes do
        with suppress(OSError):  # no such file yet, or not ours to chmod
            temp.chmod(stat.S_IMODE(path.stat().st_mode))
        temp.replace(path)
    except BaseException:  # Ctrl-C too
        with suppress(OSError):
            temp.unlink()
        raise
    _sync_folder(path.parent)


def _open_temp(path: Path) -> tuple[Path, BinaryIO]:
    """A new hidden file beside `path`, with a short name: a long one could pass the limit of 255 bytes."""
    owner = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    temp = path.with_name(f".{path.name[:40]}.{owner}{TEMP_SUFFIX}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(temp, flags, 0o666)  # less the umask, as for any new file
    return temp, open(temp, "r+b", opener=lambda *_: fd)  # an opener, so that .name is the path


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files that killed processes left below a folder; how many there were.

    A file is one when its process ran on this machine and does not any more, or when it is older than a day.
    """
    removed = 0
    for temp in folder.rglob(f".*{TEMP_SUFFIX}"):
        with suppress(OSError, ValueError):
            machine, pid, _ = temp.name.removesuffix(TEMP_SUFFIX).rpartition(".")[2].split("-")
            ours = machine == _machine() and not is_running(int(pid))
            if ours or time.time() - temp.stat().st_mtime > _DAY:
                temp.unlink()
                removed += 1
    return removed


def is_running(pid: int) -> bool:
    """Whether a process of this machine is alive; True where that cannot be told."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # the latter: no number of a process
        return False
    except OSError:
        return True
    return True


def _machine() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def machine() -> str:
    """What tells this machine's processes from another's: in a container they are numbered anew."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can."""
    if os.name != "posix":
        return
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
