"""OpenEXR: one float32 channel "Z" (extra `exr`). The metadata is the header attribute "prv2".

Files by others are read widely: exr_channels says which channel is depth, and the display window what is shown.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from prv2cli.depth_files.formats.checks import MAX_PIXELS, MAX_RATIO, Decoded, check, size_of
from prv2cli.depth_files.formats.exr_channels import choose_channels, listed
from prv2cli.depth_files.formats.rows import Rows
from prv2cli.errors import InputError
from prv2cli.extras import import_openexr
from prv2cli.files.text import shown

EXR_KEY, _DEPTH = "prv2", "Z"
# A window may be much larger than the pixels in it, but a small file is not to fill the memory.
_WINDOW_PIXELS, _TIMES_THE_DATA = 1 << 25, 64


def encode_exr(file: BinaryIO, rows: Rows, text: str) -> None:
    """One float32 channel "Z". OpenEXR takes the whole map at once, and writes it in pieces."""
    module = import_openexr()
    values = np.concatenate(list(rows))
    header = {EXR_KEY: text, "compression": module.ZIP_COMPRESSION, "type": module.scanlineimage}
    module.File(header, {_DEPTH: values}).write(_Watched(file, rows.on_band))


@dataclass
class _Watched:
    """What OpenEXR asks of a file, with `on_write` called before each piece: also where Ctrl-C gets through."""

    file: BinaryIO
    on_write: Callable[[], None]

    def write(self, piece: bytes) -> int:
        self.on_write()
        return self.file.write(piece)

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(place, whence)


def decode_exr(file: BinaryIO, name: str | None = None) -> Decoded:
    """The channel called `name`; by default the one of depth (exr_channels). OpenEXR reads from a name only.

    What is shown is the display window: pixels of it outside the data window are holes, others are left out.
    """
    module = import_openexr()
    with _path_of(file) as path:
        with module.File(str(path), separate_channels=True, header_only=True) as head:
            parts = [_Part.of(part.header) for part in head.parts]
        for part in parts:
            part.check(size_of(file))
        names = [part.channels for part in parts]
        index, channels = choose_channels(names, name)
        # File() would say so too, but on stderr; of several parts InputFile sees the first alone.
        if len(parts) == 1 and not module.InputFile(str(path)).isComplete():
            raise InputError("truncated: the picture ends early")
        with module.File(str(path), separate_channels=True) as whole:
            pixels = whole.parts[index].channels
            numbers, *others = (pixels[channel].pixels for channel in channels)
    if not all(np.array_equal(numbers, other, equal_nan=numbers.dtype.kind == "f") for other in others):
        raise InputError(
            f"a colour image, not depth (channels {listed(names)}); "
            f"say which channel holds it: FILE.exr:{shown(channels[0])}"
        )
    check(numbers.shape, numbers.dtype, numbers.nbytes)
    found = parts[index].in_display_window(numbers)
    # The metadata are about the depth, not about normals or a mask beside it.
    return found if channels == [_DEPTH] else found._replace(text=None)


@dataclass(frozen=True)
class _Part:
    """What the header of a part says; windows are x, y, width, height."""

    deep: bool
    channels: list[str]
    subsampled: bool
    data: tuple[int, int, int, int]
    display: tuple[int, int, int, int]
    text: str | None

    @classmethod
    def of(cls, header: dict[str, Any]) -> _Part:
        """From OpenEXR's header, which is empty once its file is closed."""
        channels, text = header["channels"], header.get(EXR_KEY)
        return cls(
            "deep" in str(header.get("type", "")),
            [str(channel.name) for channel in channels],
            any((channel.xSampling, channel.ySampling) != (1, 1) for channel in channels),
            _window(header["dataWindow"]),
            _window(header["displayWindow"]),
            text if isinstance(text, str) else None,
        )

    def check(self, size: int) -> None:
        """Refuse what is no flat picture of numbers for each pixel, or claims more than a file of `size` can hold."""
        if self.deep:
            raise InputError("a deep EXR of many samples a pixel; flatten it to one depth a pixel")
        bytes_each = 4 * max(1, len(self.channels))
        check((self.data[3], self.data[2]), np.dtype("f4"), size * MAX_RATIO // bytes_each * 4)
        if self.subsampled:
            raise InputError("an EXR of subsampled channels; a depth map has one number for each pixel")

    def in_display_window(self, numbers: np.ndarray) -> Decoded:
        """What is shown: the display window, which the pixels need not fill, and may surpass."""
        rows, columns = numbers.shape
        x, y, width, height = self.display
        left, top = self.data[0] - x, self.data[1] - y
        if (left, top, columns, rows) == (0, 0, width, height):
            return Decoded(numbers, self.text)
        check((height, width), numbers.dtype, MAX_PIXELS * 8)
        if height * width > max(_WINDOW_PIXELS, _TIMES_THE_DATA * numbers.size):
            raise InputError(
                f"a display window of {width} x {height} around {columns} x {rows} pixels; crop it and save it again"
            )
        seen_rows = slice(max(0, top), min(height, top + rows))
        seen_columns = slice(max(0, left), min(width, left + columns))
        if seen_rows.start >= seen_rows.stop or seen_columns.start >= seen_columns.stop:
            raise InputError("an EXR whose pixels all lie outside its display window")
        framed, holes = np.zeros((height, width), numbers.dtype), np.ones((height, width), bool)
        framed[seen_rows, seen_columns] = numbers[
            seen_rows.start - top : seen_rows.stop - top, seen_columns.start - left : seen_columns.stop - left
        ]
        holes[seen_rows, seen_columns] = False
        note = f"{columns} x {rows} pixels at ({left}, {top}) of a display window of {width} x {height}, which is read"
        return Decoded(framed, self.text, holes if holes.any() else None, (note,))


def _window(window: tuple[Any, Any]) -> tuple[int, int, int, int]:
    """x, y, width, height of a window from its first to its last pixel."""
    (x, y), (last_x, last_y) = window
    return int(x), int(y), int(last_x) - int(x) + 1, int(last_y) - int(y) + 1


@contextmanager
def _path_of(file: BinaryIO) -> Iterator[Path]:
    """A path with the bytes of `file`: its own where it has one, else a temporary copy."""
    name = getattr(file, "name", None)
    if isinstance(name, str | os.PathLike) and Path(name).is_file():
        yield Path(name)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "depth.exr")
        path.write_bytes(file.read())
        yield path
