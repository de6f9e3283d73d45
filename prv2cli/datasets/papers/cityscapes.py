"""Cityscapes (Cordts et al., CVPR 2016): driving scenes, 2048 x 1024, with disparity from stereo matching.

    leftImg8bit/val/<city>/<city>_000000_000019_leftImg8bit.png
    disparity/val/<city>/..._disparity.png        16 bits: 0 = unknown, else (p - 1) / 256 px
    camera/val/<city>/..._camera.json             intrinsic.fx in px, extrinsic.baseline in metres
    gtFine/val/<city>/..._gtFine_color.png        optional: labels as colours, of which the sky is taken

As the PatchRefiner authors evaluate it: the lowest quarter (the car's bonnet) and a sixteenth at each side, where the
matching is bad, have no truth; nor has the sky where the labels are there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    disparity_to_depth,
    listed_files,
    name_of,
    read_json,
    read_numbers,
    read_rgb,
    split_lines,
)
from prv2cli.errors import InputError
from prv2cli.settings import Settings

_SKY = (70, 130)  # red and green of the label colour


class CityscapesData(Settings):
    """`split`: train, val, train_extra (a folder of leftImg8bit), or a file with a picture and a disparity a line."""

    layout: Literal["cityscapes"] = "cityscapes"
    root: Path
    split: str = "val"
    trim: bool = True


class Cityscapes(ListedData[Path]):
    """Left pictures of Cityscapes. `trim`: leave out the bonnet and the sides, as the authors do.

    Edges are told by depth, not by disparity, as in the authors' evaluation of this data set.
    """

    def __init__(self, config: CityscapesData) -> None:
        root, self._trim = check_root(config.root), config.trim
        folder = root / "leftImg8bit" / config.split
        if folder.is_dir():
            images = sorted(folder.glob("*/*_leftImg8bit.png"))
        else:
            lines = split_lines(root, config.split, 2, "a picture and a disparity")
            images = [image for (image,) in listed_files(lines, root, 0)]
        super().__init__(
            [(name_of(image, root), image) for image in images],
            f"data.root {root}: no Cityscapes sample (leftImg8bit/{config.split}/<city>/*_leftImg8bit.png)",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        stored = read_numbers(_sibling(entry, "disparity")).astype(np.float32)
        disparity = np.where(stored > 0, (stored - 1) / 256, np.nan)
        focal, baseline = _camera(_sibling(entry, "camera", suffix=".json"))
        truth = disparity_to_depth(disparity, focal, baseline)
        if self._trim:
            height, width = truth.shape
            truth[height - -(-height // 4) :] = np.nan
            truth[:, : width // 16] = np.nan
            truth[:, width - -(-width // 16) :] = np.nan
        labels = _sibling(entry, "gtFine", "gtFine_color")
        if labels.is_file():
            truth[_sky(labels, truth.shape)] = np.nan
        return Sample(name, read_rgb(entry), truth, None, focal)


def _sibling(image: Path, folder: str, ending: str | None = None, suffix: str = ".png") -> Path:
    """The file of the same frame in another folder of the data set."""
    stem = image.stem.removesuffix("leftImg8bit") + (ending or folder)
    parts = list(image.parent.parts)
    if "leftImg8bit" in parts:  # the last one: the data set may itself lie below a folder of that name
        parts[len(parts) - 1 - parts[::-1].index("leftImg8bit")] = folder
    return Path(*parts) / f"{stem}{suffix}"


def _camera(path: Path) -> tuple[float, float]:
    """Focal length in px and baseline in metres."""
    camera = read_json(path)
    try:
        return float(camera["intrinsic"]["fx"]), float(camera["extrinsic"]["baseline"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no intrinsic.fx and extrinsic.baseline") from error


def _sky(labels: Path, size: tuple[int, ...]) -> np.ndarray:
    """(H, W) bool from the label colours."""
    colours = read_rgb(labels)
    if colours.shape[:2] != size:
        raise InputError(f"{labels}: not of the size of its disparity")
    return np.asarray((colours[..., 0] == _SKY[0]) & (colours[..., 1] == _SKY[1]))
