"""Small depth maps to evaluate, in memory and in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.evaluation.config import Measuring

PLAIN = Measuring(boundaries=False)


HEIGHT, WIDTH = 24, 32


def stairs() -> np.ndarray:
    """(H, W) metres: a 4 m wall with a box at 2 m before it."""
    depth = np.full((HEIGHT, WIDTH), 4, np.float32)
    depth[8:16, 10:20] = 2
    return depth


def slope() -> np.ndarray:
    return np.linspace(1, 20, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def files(folder: Path, **maps: np.ndarray) -> Path:
    """prv2 depth files; a double underscore in a name is a folder."""
    for name, values in maps.items():
        path = folder / f"{name.replace('__', '/')}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_depth(path, values, DepthMetadata())
    return folder
