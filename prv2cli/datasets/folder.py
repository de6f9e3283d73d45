"""Any photographs with depth files: two folders of the same names, or a table (CSV) that says what belongs together.

    images/a/b.jpg, depth/a/b.png        layout: folder
    image,depth,scale,kind,focal_px      layout: manifest; only the first two columns need be there

Depth files are read as everywhere in prv2: those by prv2 know their unit, others need `scale` (numbers per metre).
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from prv2cli.choices import Kind
from prv2cli.datasets.samples import ListedData, Sample, check_root, files_below, name_of, read_rgb, read_text
from prv2cli.depth_files.decode import READ_SUFFIXES
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError, UsageError
from prv2cli.photo.kinds import PHOTO_SUFFIXES
from prv2cli.settings import Settings

_Scale = Annotated[float, Field(gt=0)]


class FolderData(Settings):
    """`suffix`: what the names of the depth files have at their end, e.g. _depth. `scale`: numbers per metre."""

    layout: Literal["folder"] = "folder"
    root: Path
    images: str = "images"
    depths: str = "depth"
    suffix: str = ""
    scale: _Scale | None = None
    kind: Literal["depth", "inverse"] | None = None


class ManifestData(Settings):
    """`file`: the table; its paths are relative to `root`, by default the folder of the table."""

    layout: Literal["manifest"] = "manifest"
    file: Path
    root: Path | None = None
    scale: _Scale | None = None
    kind: Literal["depth", "inverse"] | None = None


class _Pair(NamedTuple):
    image: Path
    depth: Path
    scale: float | None
    kind: Kind | None
    focal_px: float | None = None


class Pairs(ListedData[_Pair]):
    """Photographs with depth files."""

    def _load(self, name: str, entry: _Pair) -> Sample:
        depth = read_depth(entry.depth, scale=entry.scale, kind=entry.kind, scale_flag="data.scale")
        if depth.metadata.unit not in ("metre", "1/metre"):
            raise InputError(
                f"{entry.depth}: depth in unit {depth.metadata.unit} is no truth; metres are needed"
            )
        truth = 1 / depth.values if depth.metadata.kind == "inverse" else depth.values
        return Sample(name, read_rgb(entry.image), truth.astype(np.float32), None, entry.focal_px)


class Folder(Pairs):
    """Two folders whose files go together by their path without extension. A photograph without depth is broken."""

    def __init__(self, config: FolderData) -> None:
        root = check_root(config.root)
        images, depths = check_root(root / config.images), check_root(root / config.depths)
        photographs = files_by_stem(images, PHOTO_SUFFIXES)
        maps = files_by_stem(depths, READ_SUFFIXES, config.suffix)
        pairs = [
            (
                stem,
                _Pair(
                    image, maps.get(stem, depths / f"{stem}{config.suffix}.png"), config.scale, config.kind
                ),
            )
            for stem, image in photographs.items()
        ]
        super().__init__(pairs, f"data.root {root}: no photograph in {images}")


class Manifest(Pairs):
    """The rows of a table."""

    def __init__(self, config: ManifestData) -> None:
        root = check_root(config.root or config.file.parent)
        pairs = [self._pair(root, config, row, line) for line, row in _rows(config.file)]
        super().__init__(pairs, f"data.file {config.file}: no row below the header image,depth,scale")

    @staticmethod
    def _pair(root: Path, config: ManifestData, row: dict[str, str], line: int) -> tuple[str, _Pair]:
        try:
            image, depth = root / row["image"], root / row["depth"]
            scale, focal = _positive(row, "scale"), _positive(row, "focal_px")
            return name_of(image, root), _Pair(
                image, depth, scale or config.scale, _kind(row) or config.kind, focal
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{config.file}, line {line}: expected image, depth and, where given, scale, kind, focal_px"
            ) from error


def files_by_stem(folder: Path, suffixes: frozenset[str], ending: str = "") -> dict[str, Path]:
    """Path below `folder` without `ending` and extension -> file, sorted; hidden files and others are left out.

    Raises UsageError for two files of one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(files_below(folder)):
        relative = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(part.startswith(".") for part in relative.parts):
            continue
        if not path.stem.endswith(ending):
            continue
        stem = relative.with_name(path.stem[: len(path.stem) - len(ending)]).as_posix()
        if stem in found:
            raise UsageError(f"{path} and {found[stem].name} have the same name; keep one")
        found[stem] = path
    return found


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Each row with the number of its line."""
    if not path.is_file():
        raise UsageError(f"data.file {path}: no such file; name a table (CSV)")
    reader = csv.DictReader(io.StringIO(read_text(path)), skipinitialspace=True)
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}: not a table of comma-separated values") from error


def _positive(row: dict[str, str], key: str) -> float | None:
    """The number of a cell, None where it is empty. Raises ValueError for what is not finite and above 0."""
    if not row.get(key):
        return None
    number = float(row[key])
    if not 0 < number < math.inf:
        raise ValueError(number)
    return number


def _kind(row: dict[str, str]) -> Kind | None:
    kind = row.get("kind") or None
    if kind not in (None, "depth", "inverse"):
        raise ValueError(kind)
    return kind  # type: ignore[return-value]
