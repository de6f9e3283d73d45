"""Synth4K (InfiniDepth, Yu et al., CVPR 2026): pictures of five games, 3840 x 2160, with the games' own depth.

    datasets/<game>/...                             pictures and depth, in metres, as the lists name them
    processed_datasets/<game>/val.txt               picture and depth a line, below datasets/<game>
    <folder of the depth>/../highfreq_mask/<name of the depth>_highfreq_mask.png    not 0 where there is fine detail

The games are cyberpunk, deadisland, spiderman2, spidermanmm and watchdoglegion. Read off the authors' own loader and
its documentation, not off the data: the format of the depth files is any that prv2 reads, EXR among them (extra `exr`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from prv2cli.datasets.arrays import read_mask
from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    listed_files,
    mark_invalid,
    name_of,
    read_numbers,
    read_rgb,
    read_split,
)
from prv2cli.errors import InputError, UsageError
from prv2cli.settings import Settings


class Synth4KData(Settings):
    """`game`: one of the five, None: all. `detail`: measure only where the authors' masks find fine detail."""

    layout: Literal["synth4k"] = "synth4k"
    root: Path
    game: str | None = None
    detail: bool = False


class _Files(NamedTuple):
    image: Path
    depth: Path


class Synth4K(ListedData[_Files]):
    """The pictures of the validation lists."""

    def __init__(self, config: Synth4KData) -> None:
        root, self._detail = check_root(config.root), config.detail
        lists = {path.parent.name.lower(): path for path in sorted(root.glob("processed_datasets/*/val.txt"))}
        if config.game is not None:
            if config.game.lower() not in lists:
                raise UsageError(
                    f"data.game {config.game}: no list of it (found: {', '.join(lists) or 'none'})"
                )
            lists = {config.game.lower(): lists[config.game.lower()]}
        files = [
            _Files(*paths)
            for path in lists.values()
            for paths in listed_files(
                read_split(path, 2, "a picture and its depth"), root / "datasets" / path.parent.name, 0, 1
            )
        ]
        super().__init__(
            [(name_of(entry.image, root / "datasets"), entry) for entry in files],
            f"data.root {root}: no list of Synth4K (processed_datasets/<game>/val.txt)",
        )

    def _load(self, name: str, entry: _Files) -> Sample:
        truth = mark_invalid(read_numbers(entry.depth))
        if self._detail:
            mask = read_mask(
                entry.depth.parents[1] / "highfreq_mask" / f"{entry.depth.stem}_highfreq_mask.png"
            )
            if mask.shape != truth.shape:
                raise InputError(f"{entry.depth}: its mask of fine detail is not of its size")
            truth[~mask] = np.nan
        return Sample(name, read_rgb(entry.image), truth)
