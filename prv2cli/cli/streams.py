"""stdin, stdout and stderr as they are found: closed, full, of another encoding, or with nobody at the other end.

What cannot be printed must not cost what was computed. stdout says in one OutputError what is wrong with it; stderr,
which would have to say it, keeps quiet.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from prv2cli.errors import InputError, OutputError, UsageError
from prv2cli.files.atomic import output_error


class _Guarded:
    """A text stream whose failures go to `failed`. All else is the stream's own."""

    def __init__(self, stream: Any, failed: Callable[[OSError], None]) -> None:
        self._stream, self._failed = stream, failed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)


def guard_streams() -> None:
    """Make stdout and stderr of this process what the module says; nothing they cannot encode ends a program."""
    for number in range(3):
        if not _is_open(number):  # else the next file that is opened would be stdout, for whoever prints
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is not None and not isinstance(sys.stdout, _Guarded):
        sys.stdout = _Guarded(sys.stdout, _explain)
    if sys.stderr is not None and not isinstance(sys.stderr, _Guarded):
        sys.stderr = _Guarded(sys.stderr, lambda error: None)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _explain(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise error
    raise output_error("stdout", error) from error


def emit(text: str) -> None:
    """One line of data on stdout, at once. Raises OutputError, BrokenPipeError; nothing where stdout is closed."""
    if sys.stdout is not None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def flush_stdout() -> OutputError | None:
    """Write what is still to be written; what went wrong, after which there is no stdout any more."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        close_stdout_quietly()
    except OutputError as error:
        close_stdout_quietly()
        return error
    return None


def close_stdout_quietly() -> None:
    """After it has failed: keep Python from complaining about what is left in it at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())


def binary_stdin() -> BinaryIO:
    """Raises InputError where it is closed."""
    if sys.stdin is None:
        raise InputError("stdin is closed; give a file, or a pipe: cat FILE | prv2 ...")
    return sys.stdin.buffer


def binary_stdout() -> BinaryIO:
    """Raises UsageError where it is closed."""
    if sys.stdout is None:
        raise UsageError("stdout is closed; give the output a file")
    return sys.stdout.buffer


def read_stdin() -> bytes:
    """All of it. Raises InputError."""
    try:
        return binary_stdin().read()
    except OSError as error:
        raise InputError(f"stdin cannot be read: {error.strerror}") from error
