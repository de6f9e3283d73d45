"""iBims-1 (Koch et al., ECCV Workshops 2018): 100 indoor pictures, 640 x 480, with depth from a laser scanner.

    imagelist.txt                        a name a line; without it every picture counts
    ibims1_core_raw/rgb/<name>.png       depth/<name>.png: 16 bits, 65535 = 50 m, 0 = none
                    calib/<name>.txt     fx, fy, cx, cy
                    mask_invalid/, mask_transp/<name>.png    not 0 where the depth counts: measured, not glass
    ibims1_core_mat/<name>.mat           or all of it in MATLAB's format, depth in metres (scipy, extra `train`)

The publishers' evaluation leaves out what either mask leaves out, and so does this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from prv2cli.datasets.arrays import optional_focal, read_mask
from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    mark_invalid,
    read_numbers,
    read_rgb,
    read_split,
    unreadable,
)
from prv2cli.errors import InputError
from prv2cli.extras import import_matlab_files
from prv2cli.settings import Settings

_FULL_SCALE = 50.0 / 65535  # metres
_MASKS = ("mask_invalid", "mask_transp")


class IBimsData(Settings):
    """`root`: the folder with ibims1_core_raw or ibims1_core_mat in it, or one of the two."""

    layout: Literal["ibims"] = "ibims"
    root: Path


class IBims(ListedData[Path]):
    """iBims-1; the PNG files where they are there, else MATLAB's."""

    def __init__(self, config: IBimsData) -> None:
        root = check_root(config.root)
        raw = _folder(root, "ibims1_core_raw")
        mat = _folder(root, "ibims1_core_mat")
        if (raw / "rgb").is_dir():
            found = {path.stem: path for path in sorted((raw / "rgb").glob("*.png"))}
        else:
            found = {path.stem: path for path in sorted(mat.glob("*.mat"))}
        listed = [folder / "imagelist.txt" for folder in (root, mat, raw)]
        names = next((_names(path) for path in listed if path.is_file()), list(found))
        folder = next((path.parent for path in found.values()), raw / "rgb")
        super().__init__(
            [(name, found.get(name, folder / f"{name}.png")) for name in names if found],
            f"data.root {root}: no iBims-1 picture (ibims1_core_raw/rgb/*.png or ibims1_core_mat/*.mat)",
        )

    def _load(self, name: str, entry: Path) -> Sample:
        return _from_matlab(name, entry) if entry.suffix == ".mat" else _from_pictures(name, entry)


def _folder(root: Path, name: str) -> Path:
    return root / name if (root / name).is_dir() else root


def _names(path: Path) -> list[str]:
    return [line[0] for line in read_split(path, 1, "a name")]


def _from_pictures(name: str, rgb: Path) -> Sample:
    base = rgb.parents[1]
    depth = mark_invalid(read_numbers(base / "depth" / rgb.name) * _FULL_SCALE)
    for mask in (read_mask(base / folder / rgb.name) for folder in _MASKS):
        if mask.shape != depth.shape:
            raise InputError(f"{rgb}: its masks are not of the size of its depth")
        depth[~mask] = np.nan
    return Sample(name, read_rgb(rgb), depth, None, optional_focal(base / "calib" / f"{rgb.stem}.txt"))


def _from_matlab(name: str, path: Path) -> Sample:
    """One struct `data` with the fields rgb, depth, mask_invalid, mask_transp and calib, whose first number is fx."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    reader: Any = import_matlab_files()
    try:
        fields = reader.loadmat(path)["data"][0, 0]
        rgb = np.asarray(fields["rgb"], np.uint8)
        depth = mark_invalid(np.asarray(fields["depth"], np.float32))
        for key in _MASKS:
            depth[np.asarray(fields[key]) == 0] = np.nan
        focal = float(np.asarray(fields["calib"], np.float64).ravel()[0])
    except (OSError, reader.matlab.MatReadError) as error:
        raise unreadable(path, error) from error
    except (KeyError, IndexError, TypeError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: not a file of iBims-1 (data.rgb, depth, calib, the masks)") from error
    return Sample(name, rgb, depth, None, focal)
