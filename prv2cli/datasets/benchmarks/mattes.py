"""Photographs with an alpha matte of what is in front, for the recall of depth edges as in Depth Pro's paper.

    AM-2K (Li et al., IJCV 2022), animals:   validation/original/*.jpg, validation/mask/*.png
    P3M-10k (Li et al., ACM MM 2021), people:
        validation/P3M-500-NP/original_image/*.jpg, mask/*.png      faces as they are
        validation/P3M-500-P/blurred_image/*.jpg, mask/*.png        faces blurred

A matte says nothing of metres: these are for `prv2 eval` alone, not for training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from prv2cli.datasets.samples import ListedData, Sample, check_root, name_of, read_rgb
from prv2cli.errors import InputError
from prv2cli.settings import Settings

_SUFFIXES = {".jpg", ".jpeg", ".png"}
_P3M_PICTURES = {"P3M-500-NP": "original_image", "P3M-500-P": "blurred_image"}


class AM2KData(Settings):
    """`root`: the folder with validation in it, or that itself."""

    layout: Literal["am2k"] = "am2k"
    root: Path


class P3MData(Settings):
    """`subset`: P3M-500-NP (no privacy: faces as they are) or P3M-500-P (blurred)."""

    layout: Literal["p3m"] = "p3m"
    root: Path
    subset: Literal["P3M-500-NP", "P3M-500-P"] = "P3M-500-NP"


class Mattes(ListedData[Path]):
    """A folder of pictures with one of mattes beside it, of the same names."""

    def __init__(self, config: AM2KData | P3MData) -> None:
        root = check_root(config.root)
        base = root / "validation" if (root / "validation").is_dir() else root
        if isinstance(config, P3MData):
            folder = base / config.subset / _P3M_PICTURES[config.subset]
        else:
            folder = base / "original"
        found = sorted(folder.glob("*")) if folder.is_dir() else []
        super().__init__(
            [(name_of(path, root), path) for path in found if path.suffix.lower() in _SUFFIXES],
            f"data.root {root}: no picture in {folder}",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        rgb, mask = read_rgb(entry), entry.parents[1] / "mask" / f"{entry.stem}.png"
        stored = read_rgb(mask)[..., 0]
        if stored.shape != rgb.shape[:2]:
            raise InputError(f"{mask}: not of the size of its picture")
        matte = (stored / np.float32(np.iinfo(stored.dtype).max)).astype(np.float32)
        return Sample(name, rgb, np.full(matte.shape, np.nan, np.float32), matte=matte)
