"""HAMMER (Jung et al., CVPR 2023): table tops with glass and metal, with rendered depth of scanned objects.

    <sequence>/polarization/rgb/000000.png         the pictures of the polarisation camera
    <sequence>/polarization/_gt/000000.png         their depth: 16 bits, millimetres, 0 = none
    <sequence>/polarization/intrinsics.txt         a 3 x 3 matrix, fx first

Sequences are called scene2_traj1_1 and the like, and may lie below train/ and test/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prv2cli.datasets.arrays import optional_focal
from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    files_below,
    mark_invalid,
    name_of,
    read_numbers,
    read_rgb,
    thinned,
)
from prv2cli.settings import PositiveInt, Settings

_MILLIMETRES = 1000.0


class HammerData(Settings):
    """`every`: only each so many-th frame of a sequence, which differ little."""

    layout: Literal["hammer"] = "hammer"
    root: Path
    every: PositiveInt = 1


class Hammer(ListedData[Path]):
    """The polarisation camera's pictures."""

    def __init__(self, config: HammerData) -> None:
        root = check_root(config.root)
        depths = (
            path
            for path in files_below(root)
            if path.suffix == ".png" and path.parent.name == "_gt" and path.parents[1].name == "polarization"
        )
        super().__init__(
            [(name_of(_picture(path), root), path) for path in thinned(depths, config.every)],
            f"data.root {root}: no HAMMER frame (<sequence>/polarization/_gt/*.png)",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        truth = mark_invalid(read_numbers(entry) / _MILLIMETRES)
        focal = optional_focal(entry.parents[1] / "intrinsics.txt")
        return Sample(name, read_rgb(_picture(entry)), truth, None, focal)


def _picture(depth: Path) -> Path:
    return depth.parents[1] / "rgb" / depth.name
