"""What every data set gives: a photograph and its true depth. And the arithmetic that the layouts share. No torch.

DataSet        len, names, item -> Sample; one class a layout (layouts.py)
Readable       its samples in order; a broken one is told once and left out
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from prv2cli.depth_files.decode import decode
from prv2cli.errors import InputError, MissingExtraError, Prv2Error, UsageError
from prv2cli.files.text import shown
from prv2cli.photo.read import read_photo

FloatMap = npt.NDArray[np.float32]  # (H, W)
Entry = TypeVar("Entry")


@dataclass(frozen=True, eq=False)
class Sample:
    """One photograph with its truth.

    Attributes:
        name: unique in the data set; a relative path without extension, which never leads upwards.
        rgb: (H, W, 3) uint8 or uint16, sRGB.
        truth: (H, W) float32 metres along the optical axis, NaN = not measured.
        disparity: (H, W) float32 px, NaN = not measured, where the layout stores it: depth edges are told by it.
        focal_px: focal length in pixels of `rgb`, where the layout knows it.
        matte: (H, W) float32 0..1, how much of a pixel is in front; with it nothing of the truth is known.
    """

    name: str
    rgb: np.ndarray
    truth: FloatMap
    disparity: FloatMap | None = None
    focal_px: float | None = None
    matte: FloatMap | None = None

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(H, W), True where the truth was measured."""
        return ~np.isnan(self.truth)


class DataSet(Protocol):
    """A data set in its published layout. An item that cannot be read raises a Prv2Error naming the file."""

    names: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class ListedData(Generic[Entry]):
    """A data set whose samples are known from the start: (name, what is needed to load it)."""

    def __init__(self, entries: Sequence[tuple[str, Entry]], nothing: str) -> None:
        """`nothing`: the message of the InputError for a data set without a sample."""
        if not entries:
            raise InputError(nothing)
        self.names: Sequence[str] = _distinct([name for name, _ in entries])
        self._entries = [entry for _, entry in entries]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        sample = self._load(self.names[index], self._entries[index])
        if sample.rgb.shape[:2] != sample.truth.shape:
            (height, width), (rows, columns) = sample.rgb.shape[:2], sample.truth.shape
            raise InputError(
                f"{sample.name}: the photograph is {width} x {height} and its depth {columns} x {rows}; bring one of "
                "the two to the other's size"
            )
        if sample.matte is None and not sample.valid.any():
            raise InputError(f"{sample.name}: no pixel has a true depth")
        return sample

    def _load(self, name: str, entry: Entry) -> Sample:
        raise NotImplementedError


class Readable:
    """The samples of a data set, again and again. One that cannot be read is told at its first turn and left out.

    A UsageError (a unit that nobody told) and a MissingExtraError are raised: they would come with every sample.
    """

    def __init__(self, data: DataSet, tell: Callable[[str], None], limit: int | None = None) -> None:
        """`tell` gets one line per broken sample. `limit`: only so many samples, from the start."""
        self.data, self._tell = data, tell
        self.count = len(data) if limit is None else min(limit, len(data))
        self.broken: dict[str, str] = {}  # name -> why

    def __iter__(self) -> Iterator[Sample]:
        for index, name in enumerate(self.data.names[: self.count]):
            if name in self.broken:
                continue
            try:
                yield self.data[index]
            except (MissingExtraError, UsageError):  # would be the same for all of them
                raise
            except Prv2Error as error:
                self.broken[name] = str(error)
                self._tell(left_out(name, error))


def left_out(name: str, error: Exception) -> str:
    """The one line that tells of a broken sample."""
    return shown(f"{name} is left out: {error}")


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """A name that was there before gets a number: a table may list one photograph twice."""
    given, used = set(names), dict.fromkeys(names, 0)
    result = []
    for name in names:
        used[name] += 1
        unique = name
        while used[name] > 1 and (unique := f"{name}#{used[name]}") in given:
            used[name] += 1
        result.append(unique)
    return tuple(result)


# --- arithmetic -----------------------------------------------------------------------------------------------


def disparity_to_depth(
    disparity: np.ndarray, focal_px: float, baseline: float, offset: float = 0.0
) -> FloatMap:
    """(H, W) metres: baseline * focal_px / (disparity + offset); NaN where that is not finite and above 0.

    Args:
        disparity: (H, W) px. NaN and infinite = not measured.
        baseline: metres. offset: px, the difference of the principal points (Middlebury's doffs).
    """
    with np.errstate(all="ignore"):
        depth = (baseline * focal_px / (disparity.astype(np.float64) + offset)).astype(np.float32)
    return mark_invalid(np.where(np.isfinite(disparity), depth, np.float32(np.nan)))


def planar_depth(distance: np.ndarray, rays: np.ndarray) -> FloatMap:
    """(H, W) metres along the optical axis from distances to the camera's centre.

    Args:
        distance: (H, W) metres along each ray.
        rays: (H, W, 3) directions in the camera's frame, of any length, z along or against the optical axis.
    """
    cosine = np.abs(rays[..., 2]) / np.linalg.norm(rays, axis=-1)
    return mark_invalid((distance * cosine).astype(np.float32))


def mark_invalid(depth: np.ndarray) -> FloatMap:
    """A float32 copy in which what is not finite and above 0 is NaN."""
    values = np.array(depth, dtype=np.float32)
    values[~(np.isfinite(values) & (values > 0))] = np.nan
    return values


# --- files ----------------------------------------------------------------------------------------------------


def read_numbers(path: Path) -> np.ndarray:
    """The stored numbers (H, W) of a 16-bit PNG, .npy, .pfm, ..., as they are; 0 where the file says no data.

    Raises InputError.
    """
    try:
        with path.open("rb") as file:
            stored = decode(file, str(path))
    except OSError as error:
        raise unreadable(path, error) from error
    return stored.numbers if stored.holes is None else np.where(stored.holes, 0, stored.numbers)


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 or uint16. Raises InputError, for a folder too: of all samples it is this one that is wrong."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a photograph in it")
    return read_photo(path).rgb


def read_text(path: Path) -> str:
    """Raises InputError for a file that is not there or is no text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error


def read_json(path: Path) -> Any:
    """Raises InputError for what is no JSON."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON") from error


def unreadable(path: Path, error: Exception) -> InputError:
    """Why a file cannot be read, as one line."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return InputError(f"{path}: cannot be read ({reason})")


def check_root(root: Path) -> Path:
    """`root`, if it is a folder. Raises UsageError."""
    if not root.is_dir():
        raise UsageError(f"data.root {root}: no such folder")
    return root


def find_split(root: Path, split: str, *folders: str) -> Path:
    """The split file that `split` names: a path, or a name below `root` or one of its folders, .txt or not."""
    places = [
        Path(split),
        *(root / folder / name for folder in ("", *folders) for name in (split, f"{split}.txt")),
    ]
    for place in places:
        if place.is_file():
            return place
    raise UsageError(f"data.split {split}: neither a file nor a list below {root}; name a split file")


def read_split(path: Path, columns: int, what: str) -> list[list[str]]:
    """The lines of a split file, cut at blanks, with `columns` words or more each; empty lines do not count.

    Raises InputError naming the line and `what` belongs into it.
    """
    lines = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) < columns:
            raise InputError(f"{path}, line {number}: expected {what}, found {line.strip()[:80]!r}")
        lines.append(words)
    return lines


def split_lines(root: Path, split: str, columns: int, what: str, *folders: str) -> list[list[str]]:
    """The lines of the split file that `split` names (find_split), as read_split gives them."""
    return read_split(find_split(root, split, *folders), columns, what)


def listed_files(lines: Iterable[Sequence[str]], root: Path, *columns: int) -> list[tuple[Path, ...]]:
    """What a split's lines name in these columns, below `root`: a tuple of files a line."""
    return [tuple(below(root, line[column]) for column in columns) for line in lines]


def thinned(frames: Iterable[Path], every: int) -> list[Path]:
    """The frames in order, of each folder only each `every`-th: those of one sequence differ little."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(frames):
        folders.setdefault(path.parent, []).append(path)
    return [path for sequence in folders.values() for path in sequence[::every]]


def first_file(*candidates: Path) -> Path:
    """The first that exists; the first of all if none does, for the message of its reader."""
    return next((path for path in candidates if path.is_file()), candidates[0])


def below(root: Path, listed: str) -> Path:
    """A path of a split file: below `root` even where it is written with a leading slash, unless it exists as it is."""
    path = Path(listed)
    return path if path.is_absolute() and path.is_file() else root / listed.lstrip("/")


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in no order. Links to folders are followed, but never back into a folder above."""
    return _walk(folder, frozenset())


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    try:
        identity = folder.stat()
        entries = [(path, path.is_dir(), path.is_file()) for path in folder.iterdir()]
    except OSError:  # a folder that may not be looked into holds nothing
        return
    here = (identity.st_dev, identity.st_ino)
    if here in above:
        return
    for path, is_folder, is_file in entries:
        if is_folder:
            yield from _walk(path, above | {here})
        elif is_file:
            yield path


def name_of(path: Path, root: Path) -> str:
    """The sample's name: its path below `root` without extension, with forward slashes."""
    inside = path.is_relative_to(root) and ".." not in path.relative_to(root).parts
    relative = path.relative_to(root) if inside else Path(*[p for p in path.parts if p != ".."][-4:])
    return relative.with_suffix("").as_posix().lstrip("/")
