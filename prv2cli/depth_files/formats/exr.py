"""OpenEXR: one float32 channel "Z" (extra `exr`). The metadata is the header attribute "prv2"."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from prv2cli.depth_files.formats.checks import MAX_RATIO, Decoded, check, size_of
from prv2cli.depth_files.formats.rows import Rows
from prv2cli.errors import InputError
from prv2cli.extras import import_openexr

EXR_KEY = "prv2"


def encode_exr(file: BinaryIO, rows: Rows, text: str) -> None:
    """One float32 channel "Z". OpenEXR takes the whole map at once, and writes it in pieces."""
    module = import_openexr()
    values = np.concatenate(list(rows))
    header = {EXR_KEY: text, "compression": module.ZIP_COMPRESSION, "type": module.scanlineimage}
    module.File(header, {"Z": values}).write(_Watched(file, rows.on_band))


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


def decode_exr(file: BinaryIO) -> Decoded:
    """The only channel, or the one called Z ("Z", "depth.Z", ...). OpenEXR reads from a name only."""
    module = import_openexr()
    with _path_of(file) as path:
        with module.File(str(path), separate_channels=True, header_only=True) as head:
            if len(head.parts) != 1:
                raise InputError(f"an EXR of {len(head.parts)} parts; a depth map is one")
            header = head.header()
            low, high = header["dataWindow"]
            width, height = (int(high[i]) - int(low[i]) + 1 for i in (0, 1))
            names = [channel.name for channel in header["channels"]]
            bytes_each = 4 * len(names)
            check((height, width), np.dtype("f4"), size_of(file) * MAX_RATIO // bytes_each * 4)
            text = header.get(EXR_KEY)
        if not module.InputFile(str(path)).isComplete():  # File() would say so too, but on stderr
            raise InputError("truncated: the picture ends early")
        with module.File(str(path), separate_channels=True) as whole:
            numbers = whole.channels()[_depth_channel(names)].pixels
    check(numbers.shape, numbers.dtype, numbers.nbytes)
    return numbers, text if isinstance(text, str) else None


def _depth_channel(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    depths = [name for name in names if name.split(".")[-1] in ("Z", "depth")]
    if len(depths) != 1:
        raise InputError(f"channels {', '.join(names[:8])}: one channel or one called Z is needed")
    return depths[0]


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
