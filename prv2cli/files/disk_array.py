"""Arrays that are too large for main memory, in temporary files without a name. numpy only.

A DiskArray is read and written by slices as an ndarray is, and what only slices and asks for the shape
takes either: the refiner's tiles, the writers of depth files, the preview. Plain reads and writes, no memory
map: mapped pages count as memory of the process. The file has no name, so nothing is left behind however the
process ends.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np

from prv2cli.errors import DiskFullError
from prv2cli.files.atomic import output_error

BAND_PIXELS = 1 << 22
_SPARE_BYTES = 64 << 20


def bands(height: int, width: int, pixels: int | None = None) -> Iterator[slice]:
    """Slices of rows of about so many pixels each (BAND_PIXELS unless told), from the top."""
    step = max(1, (pixels or BAND_PIXELS) // max(1, width))
    return (slice(y, min(y + step, height)) for y in range(0, height, step))


def check_scratch_space(folder: Path, needed: int) -> None:
    """Refuse a folder whose disk has less than `needed` bytes free. Raises DiskFullError with the figures."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise output_error(folder, error) from error
    if free < needed + _SPARE_BYTES:
        raise DiskFullError(
            f"{folder}: working in bands needs {needed / 1e9:.1f} GB of disk here for the time of the run, and "
            f"{free / 1e9:.1f} GB are free; free some space or write the output to another disk"
        )


class DiskArray:
    """An (H, W) or (H, W, C) array on disk; at first all zeros. Indices are slices of rows and of columns.

    Reading gives new ndarrays. Threads may share one.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> None:
        """`folder`: on the disk that has the space. Raises DiskFullError, OutputError."""
        self.shape, self.dtype, self.folder = shape, np.dtype(dtype), folder
        self._pixel = math.prod(shape[2:]) * self.dtype.itemsize
        self._row = shape[1] * self._pixel
        check_scratch_space(folder, self.nbytes)
        try:
            self._file: Any = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives on
            self._file.truncate(self.nbytes)
            self._at_work = Lock()  # the file has one position, which threads would move under each other
        except OSError as error:
            raise output_error(folder, error) from error

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("an array on disk is too large to become one in memory; read it by slices")

    def __enter__(self) -> DiskArray:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # it was made
            self.close()

    def close(self) -> None:
        """Give the disk space back. The last reference that goes does so, too."""
        self._file.close()

    def bands(self) -> Iterator[slice]:
        """Slices of rows of about BAND_PIXELS pixels each, from the top."""
        return bands(*self.shape[:2])

    def __getitem__(self, key: slice | tuple[slice, slice]) -> np.ndarray:
        rows, columns = self._ranges(key)
        out = np.empty((len(rows), self._span(columns), *self.shape[2:]), self.dtype)
        for offset, part in self._parts(rows, columns, out):
            self._read(offset, part)
        return out[:, :: columns.step] if columns.step > 1 else out

    def __setitem__(self, key: slice | tuple[slice, slice], values: np.ndarray) -> None:
        """Raises DiskFullError, OutputError."""
        rows, columns = self._ranges(key)
        if columns.step > 1:
            raise ValueError("columns are written without gaps")
        shape = (len(rows), len(columns), *self.shape[2:])
        block = np.ascontiguousarray(np.broadcast_to(values, shape), dtype=self.dtype)
        try:
            for offset, part in self._parts(rows, columns, block):
                self._write(offset, part)
        except OSError as error:
            raise output_error(self.folder, error) from error

    def min(self) -> float:
        """The smallest value."""
        return min(float(self[rows].min()) for rows in self.bands())

    def max(self) -> float:
        """The largest value."""
        return max(float(self[rows].max()) for rows in self.bands())

    def _ranges(self, key: slice | tuple[slice, slice]) -> tuple[range, range]:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        ranges = range(self.shape[0])[rows], range(self.shape[1])[columns]
        if any(part.step < 1 for part in ranges):
            raise ValueError("an array on disk is read forwards")
        return ranges

    @staticmethod
    def _span(columns: range) -> int:
        """How many pixels of a row are read for these columns: those in between, too."""
        return columns[-1] - columns[0] + 1 if columns else 0

    def _parts(self, rows: range, columns: range, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """The file's offset and the piece of `block` of each run of bytes without a gap."""
        if not block.size:
            return
        start = columns[0] * self._pixel
        if rows.step == 1 and block.shape[1] == self.shape[1]:
            yield rows[0] * self._row, block
        else:
            for row, part in zip(rows, block, strict=True):
                yield row * self._row + start, part

    def _read(self, offset: int, part: np.ndarray) -> None:
        left = _bytes_of(part)
        with self._at_work:
            self._file.seek(offset)
            while left:
                count = self._file.readinto(left)
                if not count:
                    raise EOFError("the temporary file is shorter than it was made")
                left = left[count:]

    def _write(self, offset: int, part: np.ndarray) -> None:
        left = _bytes_of(part)
        with self._at_work:
            self._file.seek(offset)
            while left:  # a write takes 2 GB at most
                left = left[self._file.write(left) :]


class MirroredArray(DiskArray):
    """A DiskArray seen in a mirror, left and right exchanged: to be read only, and only while that one is open."""

    def __init__(self, whole: DiskArray) -> None:
        self.shape, self.dtype, self.folder, self._whole = whole.shape, whole.dtype, whole.folder, whole

    def close(self) -> None:
        """Nothing: the file is the other array's."""

    def __getitem__(self, key: slice | tuple[slice, slice]) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        first, stop, step = columns.indices(self.shape[1])
        if step != 1:
            raise ValueError("a mirrored array is read forwards and without gaps")
        return self._whole[rows, self.shape[1] - stop : self.shape[1] - first][:, ::-1]


def _bytes_of(part: np.ndarray) -> memoryview:
    """The memory of a contiguous array, without a copy."""
    return part.reshape(-1).view(np.uint8).data
