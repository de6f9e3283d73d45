"""What the tests publish on the Hub of hub_server.py, and a process that downloads."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTENT = random.Random(3).randbytes(3_000_000)
OTHER = random.Random(4).randbytes(3_000_000)


SHA256 = hashlib.sha256(CONTENT).hexdigest()
FOLDER = {"config.json": b"{}", "preprocessor_config.json": b"{ }", "model.safetensors": CONTENT[:70_000]}


def left_in(cache: Path) -> list[str]:
    """The files with content in a cache, partial ones too."""
    return sorted(path.name for path in cache.glob("models--*/blobs/*"))
