"""Files that are looked at more than once, and pipes, which can be read but once."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def read_once(path: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> Path | BinaryIO:
    """The path of a file; of a pipe or a device all that it gives, in memory and with the path as its name.

    A folder, and what is not there or not to be seen, stay a path: whoever opens it says what is wrong.
    Raises what `read` raises.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return path
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return path
    held = io.BytesIO(read(path))
    held.name = str(path)
    return held
