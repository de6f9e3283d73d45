"""A small set of photographs with depth of any kind, in the layout of datasets/rgbd.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (96, 128)  # rows, columns of the photographs; the depth is half as large


def write_set(root: Path, count: int = 4, *, kind: str = "depth", scale: float | None = 0.001) -> Path:
    """Pictures whose red channel is brighter the nearer, left to right, and one nearer box; picture 0 has a hole.

    Green are those without metres.
    """
    for folder in ("rgb", "depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows, columns = SIZE
    for number in range(count):
        inverse = np.tile(np.linspace(0.2, 1.0, columns // 2), (rows // 2, 1))
        inverse[12:24, 8 + 4 * number : 20 + 4 * number] = 1.4
        photograph = np.full((*SIZE, 3), 90, np.uint8)
        photograph[..., 1] = 40 if scale else 200
        photograph[..., 0] = np.clip(inverse.repeat(2, 0).repeat(2, 1) * 150, 0, 255)
        Image.fromarray(photograph).save(root / "rgb" / f"{number:04d}.png")
        numbers = 20_000 * inverse if kind == "inverse" else 1000 / inverse
        if number == 0:
            numbers[:8, :8] = 0
        Image.fromarray(numbers.astype(np.uint16)).save(root / "depth" / f"{number:04d}.png")
    meta: dict[str, Any] = {"kind": kind, "scale_to_metres": scale}
    (root / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return root
