"""The encodings that several data sets store depth, masks and cameras in, each read to plain arrays. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from prv2cli.datasets.samples import read_rgb, read_text, unreadable
from prv2cli.errors import InputError
from prv2cli.extras import import_h5py


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """(H, W), True where a picture (of 1, 8 or 16 bits) or an .npy file is not 0. Raises InputError."""
    if path.suffix != ".npy":
        return np.asarray(read_rgb(path).any(axis=-1))
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise unreadable(path, error) from error
    values = np.squeeze(values)
    if values.ndim != 2:
        raise InputError(f"{path}: an array of shape {values.shape}; a mask is (height, width)")
    return np.asarray(values != 0)


def read_hdf5(path: Path, key: str) -> np.ndarray:
    """(H, W) float64, the dataset called `key`. Raises InputError, MissingExtraError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with import_h5py().File(path, "r") as file:
            values = np.asarray(file[key], dtype=np.float64)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged, or no HDF5 file with a dataset called {key!r}") from error
    if values.ndim != 2:
        raise InputError(f"{path}: an array of shape {values.shape}; a map is (height, width)")
    return values


def read_bytes(path: Path) -> bytes:
    """Raises InputError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def read_table(path: Path, columns: int) -> list[list[float]]:
    """The rows of a text file, `columns` numbers or more each, cut at blanks or commas; # begins a comment.

    Raises InputError naming the line.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: expected numbers, found {line.strip()[:80]!r}"
            ) from error
        if len(row) < columns:
            raise InputError(f"{path}, line {number}: {len(row)} numbers; {columns} are needed")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: no numbers")
    return rows


def optional_focal(path: Path) -> float | None:
    """The first number of a table, as cameras are stored; None where the file is not there. Raises InputError."""
    return read_table(path, 1)[0][0] if path.is_file() else None
