"""FILE:NAME, where a file holds several things by name."""

from __future__ import annotations

import os
from pathlib import Path

_OF_PARTS = (".npz", ".exr")


def file_and_part(source: Path) -> tuple[Path, str | None]:
    """pred.npz:depth_map -> the file, and the name of what is meant in it; None where the path is a file's own."""
    start, colon, part = str(source).rpartition(":")
    whole = Path(start)
    if not (colon and part and whole.suffix.lower() in _OF_PARTS) or os.path.lexists(source):
        return source, None
    return whole, part
