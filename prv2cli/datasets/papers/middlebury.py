"""Middlebury stereo 2014 (Scharstein et al., GCPR 2014), 2021, and the evaluation sets: rooms with precise disparity.

    <scene>/im0.png, disp0.pfm (or disp0GT.pfm), calib.txt

calib.txt: cam0=[f 0 cx; 0 f cy; 0 0 1], doffs=... px, baseline=... millimetres. An infinite disparity is unknown.
depth = baseline * f / (disparity + doffs).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    disparity_to_depth,
    files_below,
    first_file,
    name_of,
    read_numbers,
    read_rgb,
    read_text,
    split_lines,
)
from prv2cli.errors import InputError
from prv2cli.settings import Settings

_DISPARITIES = ("disp0.pfm", "disp0GT.pfm")
_NUMBER = r"([-+]?[0-9.]+(?:[eE][-+]?\d+)?)"


class MiddleburyData(Settings):
    """`split`: a file with a scene a line. None: every scene found below the root."""

    layout: Literal["middlebury"] = "middlebury"
    root: Path
    split: str | None = None


class Middlebury(ListedData[Path]):
    """The left pictures of Middlebury scenes."""

    def __init__(self, config: MiddleburyData) -> None:
        root = check_root(config.root)
        if config.split is None:
            scenes = sorted({path.parent for path in files_below(root) if path.name in _DISPARITIES})
        else:
            scenes = [root / line[0] for line in split_lines(root, config.split, 1, "a scene")]
        super().__init__(
            [(name_of(scene / "im0.png", root), scene) for scene in scenes],
            f"data.root {root}: no Middlebury scene (<scene>/im0.png, disp0.pfm, calib.txt)",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        stored = read_numbers(first_file(*(entry / name for name in _DISPARITIES)))
        disparity = np.where(np.isfinite(stored), stored, np.nan).astype(np.float32)
        focal, baseline, offset = _read_calibration(entry / "calib.txt")
        truth = disparity_to_depth(disparity, focal, baseline, offset)
        return Sample(name, read_rgb(entry / "im0.png"), truth, disparity, focal)


def _read_calibration(path: Path) -> tuple[float, float, float]:
    """Focal length in px, baseline in metres, offset of the principal points in px."""
    text = read_text(path)
    found = []
    for key, pattern in (("cam0", rf"\[\s*{_NUMBER}"), ("baseline", _NUMBER), ("doffs", _NUMBER)):
        match = re.search(rf"^{key}\s*=\s*{pattern}", text, re.MULTILINE)
        if match is None:
            raise InputError(f"{path}: no {key}=")
        try:
            found.append(float(match[1]))
        except ValueError as error:
            raise InputError(f"{path}: {key} is no number") from error
    focal, millimetres, offset = found
    return focal, millimetres / 1000, offset
