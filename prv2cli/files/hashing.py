"""What names the content of a file: its sha256, and the name that git gives it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

_PIECE = 1 << 20


def hash_file(path: Path) -> str:
    """A file's sha256, as hexadecimal digits."""
    with path.open("rb") as file:
        return hash_open_file(file)


def hash_open_file(file: BinaryIO) -> str:
    """The sha256 of all that a seekable file holds; it is then at its end."""
    file.seek(0)
    return _digest(file, hashlib.sha256())


def git_hash(path: Path) -> str:
    """The name that git gives a file's content: sha1 of its kind, length and bytes."""
    header = b"blob %d\0" % path.stat().st_size
    with path.open("rb") as file:
        return _digest(file, hashlib.sha1(header, usedforsecurity=False))


def _digest(file: BinaryIO, digest: hashlib._Hash) -> str:
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()
