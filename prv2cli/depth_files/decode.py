"""How bytes become the numbers of a depth file: one decoder per format (formats/), for files by anyone.

    decode(file, name) -> Stored     the raw numbers (H, W), the metadata if prv2 wrote the file, the format

The format is told by the first bytes, not by the name. Sizes and types are checked before any pixel is read;
whatever is wrong with the bytes comes out as one InputError that names the file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from prv2cli.depth_files.formats.checks import Decoded
from prv2cli.depth_files.formats.exr import decode_exr
from prv2cli.depth_files.formats.numpy_arrays import decode_npy, decode_npz
from prv2cli.depth_files.formats.pfm import decode_pfm
from prv2cli.depth_files.formats.png import PNG_SIGNATURE, decode_png, read_png_text
from prv2cli.depth_files.formats.tiff import decode_tiff, read_tiff_text
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.errors import InputError, Prv2Error

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it logs what it then raises, too

DECODERS: dict[str, Callable[[BinaryIO], Decoded]] = {
    "png": decode_png,
    "tiff": decode_tiff,
    "npy": decode_npy,
    "npz": decode_npz,
    "exr": decode_exr,
    "pfm": decode_pfm,
}
READ_SUFFIXES = frozenset((".png", ".tif", ".tiff", ".npy", ".npz", ".exr", ".pfm"))
_OF_PARTS: dict[str, Callable[[BinaryIO, str], Decoded]] = {"npz": decode_npz, "exr": decode_exr}
_TEXT_READERS: dict[str, Callable[[BinaryIO], str | None]] = {"png": read_png_text, "tiff": read_tiff_text}


@dataclass(frozen=True)
class Stored:
    """What a file holds, before its unit is known.

    numbers: (H, W), integer or float, any byte order, upright. holes: (H, W) bool, the pixels that the file itself
    says are no depth. notes: what a person should know of how it was read.
    """

    numbers: np.ndarray
    metadata: DepthMetadata | None
    format: str
    holes: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def decode(file: BinaryIO, name: str, part: str | None = None) -> Stored:
    """Read a seekable file; `part`: which array of an .npz, which channel of an EXR.

    Raises InputError (one line, naming the file), MissingExtraError.
    """
    kind = "depth"
    try:
        kind = _recognise(file.read(16))
        file.seek(0)
        found = DECODERS[kind](file) if part is None else _part_of(file, kind, part)
        metadata = None if found.text is None else DepthMetadata.from_json(found.text)
    except InputError as exc:
        raise InputError(f"{name}: {exc}") from exc
    except Prv2Error:
        raise
    except MemoryError as exc:
        raise InputError(f"{name}: not enough memory to read it") from exc
    except Exception as exc:  # the decoders meet arbitrary bytes: no list of exceptions would be complete
        reason = (str(exc).splitlines() or [""])[0][:120] or type(exc).__name__
        raise InputError(f"{name}: damaged or unsupported {kind.upper()} file ({reason})") from exc
    return Stored(found.numbers, metadata, kind, found.holes, found.notes)


def _part_of(file: BinaryIO, kind: str, part: str) -> Decoded:
    if kind not in _OF_PARTS:
        raise InputError(f"holds one map, without names; leave out :{part}")
    return _OF_PARTS[kind](file, part)


def read_text(file: BinaryIO) -> str | None:
    """The text of prv2 metadata in a seekable file; of a PNG or TIFF its header alone is read."""
    kind = _recognise(file.read(16))
    file.seek(0)
    reader = _TEXT_READERS.get(kind)
    return DECODERS[kind](file).text if reader is None else reader(file)


def _recognise(head: bytes) -> str:
    starts = {
        PNG_SIGNATURE: "png",
        b"II*\0": "tiff",
        b"MM\0*": "tiff",
        b"II+\0": "tiff",
        b"MM\0+": "tiff",
        b"\x93NUMPY": "npy",
        b"PK\x03\x04": "npz",
        b"PK\x05\x06": "npz",
        b"\x76\x2f\x31\x01": "exr",
        b"Pf": "pfm",
        b"PF": "pfm",
    }
    for start, kind in starts.items():
        if head.startswith(start):
            return kind
    if not head:
        raise InputError("the file is empty")
    if head.startswith((b"\xff\xd8", b"GIF8", b"BM", b"RIFF")):
        raise InputError(
            "an 8-bit picture, not depth; a depth map is a 16-bit PNG or TIFF, .npy, .npz, .exr or .pfm"
        )
    raise InputError(f"not a depth file; prv2 reads {', '.join(DECODERS)}")
