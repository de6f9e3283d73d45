"""DIODE (Vasiljevic et al., 2019): rooms and streets, 1024 x 768, with depth from a laser scanner.

    val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010.png        or outdoor, or train/
                                       00019_00183_indoors_000_010_depth.npy       float32 metres, (768, 1024, 1)
                                       00019_00183_indoors_000_010_depth_mask.npy  not 0 where the depth counts

One camera made all pictures (fx 886.81, fy 927.06 px).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from prv2cli.datasets.arrays import read_mask
from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    files_below,
    mark_invalid,
    name_of,
    read_numbers,
    read_rgb,
)
from prv2cli.errors import InputError
from prv2cli.settings import Settings

_FOCAL, _WIDTH = 886.81, 1024
_DEPTH = "_depth.npy"


class DiodeData(Settings):
    """`part`: only the pictures of rooms, or of the outside. `root`: the folder with val in it, or below."""

    layout: Literal["diode"] = "diode"
    root: Path
    part: Literal["indoors", "outdoor"] | None = None


class Diode(ListedData[Path]):
    """Every picture that has depth below the root."""

    def __init__(self, config: DiodeData) -> None:
        root = check_root(config.root)
        depths = sorted(path for path in files_below(root) if path.name.endswith(_DEPTH))
        if config.part is not None:  # both are in the file's name, wherever the root is
            depths = [path for path in depths if f"_{config.part}_" in path.name]
        super().__init__(
            [(name_of(_picture(path), root), path) for path in depths],
            f"data.root {root}: no DIODE picture (val/indoors/scene_*/scan_*/*{_DEPTH})",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        rgb = read_rgb(_picture(entry))
        truth = mark_invalid(read_numbers(entry))
        mask = read_mask(entry.with_name(entry.name.replace(_DEPTH, "_depth_mask.npy")))
        if mask.shape != truth.shape:
            raise InputError(f"{entry}: its mask is not of its size")
        truth[~mask] = np.nan
        return Sample(name, rgb, truth, None, _FOCAL * rgb.shape[1] / _WIDTH)


def _picture(depth: Path) -> Path:
    return depth.with_name(depth.name.removesuffix(_DEPTH) + ".png")
