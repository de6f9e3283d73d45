"""A photograph with depth maps of it, and the page of them, for the tests of `prv2 view`."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth

SIZE = (160, 240)  # rows, columns of the photograph, upright
HOLE = (slice(100, 130), slice(150, 200))  # of the depth map at full size


def photograph(rows: int = SIZE[0], columns: int = SIZE[1]) -> np.ndarray:
    """(rows, columns, 3) uint8: a red corner at the top left, a green one at the top right, blue grows downwards."""
    y, x = np.mgrid[0:rows, 0:columns]
    rgb = np.stack([np.full(x.shape, 40), np.full(x.shape, 60), y * 160 // rows], axis=-1).astype(np.uint8)
    rgb[: rows // 4, : columns // 4] = (220, 30, 30)
    rgb[: rows // 4, -columns // 4 :] = (30, 200, 30)
    return rgb


def depth_values(rows: int = SIZE[0], columns: int = SIZE[1]) -> np.ndarray:
    """(rows, columns) float32 metres, all different, 2 to 9; a hole where the full-size map has HOLE."""
    y, x = np.mgrid[0:rows, 0:columns]
    depth = (2 + 5 * x / columns + 2 * y / rows + 1e-4 * ((7 * x + 13 * y) % 31)).astype(np.float32)
    depth[tuple(slice(part.start * rows // SIZE[0], part.stop * rows // SIZE[0]) for part in HOLE)] = np.nan
    return depth


def write_photo(path: Path, *, orientation: int = 1, focal_35mm: int | None = None) -> None:
    """The photograph as a JPEG that is stored turned, as EXIF then says."""
    rgb = photograph()
    stored = {1: rgb, 6: np.rot90(rgb, 1), 3: np.rot90(rgb, 2)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    if focal_35mm is not None:
        exif.get_ifd(0x8769)[0xA405] = focal_35mm
    Image.fromarray(np.ascontiguousarray(stored)).save(path, quality=95, exif=exif)


def write_case(folder: Path) -> tuple[Path, Path, Path]:
    """photo.jpg (stored turned), fine.npy (float32 metres at its size), coarse.png (16 bits at half of it)."""
    photo, fine, coarse = folder / "photo.jpg", folder / "fine.npy", folder / "coarse.png"
    write_photo(photo, orientation=6)
    write_depth(fine, depth_values(), DepthMetadata(model="m </script><script>document.title='bad'</script>"))
    write_depth(coarse, depth_values(80, 120), DepthMetadata(model="c"), scale=1000)
    return photo, fine, coarse


def data_of(page: bytes) -> dict[str, Any]:
    """The JSON inside a page."""
    text = page.decode().split('<script type="application/json" id="data">')[1].split("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def values_of(depth: dict[str, Any]) -> np.ndarray:
    """What a browser makes of a packed depth: (h, w) float32, NaN = no depth."""
    width, height = depth["shown"]
    planes = zlib.decompress(b64decode(depth["text"]))
    count = width * height
    assert len(planes) == count * depth["bytes"]
    modulus = 1 << 8 * depth["bytes"]
    values = np.empty((height, width), np.float32)
    for y in range(height):
        word = 0
        for x in range(width):
            step = sum(planes[k * count + y * width + x] << 8 * k for k in range(depth["bytes"]))
            word = (word + step) % modulus
            if depth["bytes"] == 2:
                values[y, x] = np.float32(word / depth["scale"]) if word else np.nan
            else:
                values[y, x] = np.frombuffer(word.to_bytes(4, "little"), "<f4")[0]
    return values
