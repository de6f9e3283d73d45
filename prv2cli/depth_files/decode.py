"""How bytes become the numbers of a depth file: one decoder per format, for files by anyone.

    decode(file, name) -> Stored     the raw numbers (H, W), the metadata if prv2 wrote the file, the format

The format is told by the first bytes, not by the name. Sizes and types are checked before any pixel is read;
whatever is wrong with the bytes comes out as one InputError that names the file.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from prv2cli.depth_files.encode import EXR_KEY, NPY_MAGIC, PNG_KEY, PNG_SIGNATURE, import_openexr
from prv2cli.depth_files.metadata import MAX_JSON, DepthMetadata, is_ours
from prv2cli.errors import InputError, Prv2Error
from prv2cli.files.tiff_limits import check_expansion, check_layout

MAX_PIXELS = 1 << 30
_MAX_RATIO = 3000  # more than deflate (1032) and LZW can pack: a file that claims more is damaged or a bomb
_MAX_MEMBERS = 256  # arrays in an .npz
_MAX_PAGES = 64  # of a TIFF, reduced copies of the map included
_MAX_HEADER = 1 << 16  # bytes of text before the numbers of an .npy

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it logs what it then raises, too


@dataclass(frozen=True)
class Stored:
    """What a file holds, before its unit is known. `numbers`: (H, W), integer or float, any byte order."""

    numbers: np.ndarray
    metadata: DepthMetadata | None
    format: str


Decoded = tuple[np.ndarray, str | None]  # the numbers and the text of prv2 metadata


def decode(file: BinaryIO, name: str) -> Stored:
    """Read a seekable file. Raises InputError (one line, naming the file), MissingExtraError."""
    kind = "depth"
    try:
        kind = _recognise(file.read(16))
        file.seek(0)
        numbers, text = DECODERS[kind](file)
        metadata = None if text is None else DepthMetadata.from_json(text)
    except InputError as exc:
        raise InputError(f"{name}: {exc}") from exc
    except Prv2Error:
        raise
    except MemoryError as exc:
        raise InputError(f"{name}: not enough memory to read it") from exc
    except Exception as exc:  # the decoders meet arbitrary bytes: no list of exceptions would be complete
        reason = (str(exc).splitlines() or [""])[0][:120] or type(exc).__name__
        raise InputError(f"{name}: damaged or unsupported {kind.upper()} file ({reason})") from exc
    return Stored(numbers, metadata, kind)


def read_text(file: BinaryIO) -> str | None:
    """The text of prv2 metadata in a seekable file; of a PNG or TIFF its header alone is read."""
    kind = _recognise(file.read(16))
    file.seek(0)
    if kind == "png":
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(file).info.get(PNG_KEY)
    if kind == "tiff":
        import tifffile

        with tifffile.TiffFile(file) as tiff:
            description = tiff.pages.first.description
        return description if is_ours(description) else None
    return DECODERS[kind](file)[1]


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
    raise InputError("not a depth file; prv2 reads PNG, TIFF, .npy, .npz, .exr and .pfm")


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], available: int) -> None:
    """Refuse what is no depth map, before it is read. `available`: the bytes that the file can yield."""
    if len(shape) == 3 and shape[-1] in (3, 4):
        raise InputError("a colour image, not depth; prv2 reads one number per pixel")
    if len(shape) != 2:
        raise InputError(f"an array of shape {shape}; a depth map is 2-D: (height, width)")
    if dtype.kind in "biu" and dtype.itemsize == 1:
        raise InputError(
            "8-bit numbers, 256 steps at most: a picture of a depth map, not the map; use a 16-bit file"
        )
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"numbers of type {dtype}; depth is integers or floats")
    height, width = shape
    if height < 1 or width < 1:
        raise InputError(f"a map of {width} x {height} holds no pixels")
    if height * width > MAX_PIXELS:
        raise InputError(f"{width} x {height} is more than the {MAX_PIXELS} pixels that prv2 reads")
    if height * width * dtype.itemsize > available:
        raise InputError(f"truncated: it claims {width} x {height} pixels and is too small for them")


def _size(file: BinaryIO) -> int:
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size


# --- PNG ----------------------------------------------------------------------------------------------------


def _decode_png(file: BinaryIO) -> Decoded:
    """16-bit grey. Opened by class, as Image.open would try every format and has a smaller size limit."""
    from PIL.PngImagePlugin import PngImageFile

    _check_pillow(PngImageFile(file), _size(file) * _MAX_RATIO)
    file.seek(0)
    PngImageFile(file).verify()  # the checksums, which load() does not look at
    file.seek(0)
    image = PngImageFile(file)
    image.load()
    return np.asarray(image), image.info.get(PNG_KEY)


def _check_pillow(image: Any, available: int) -> None:
    """_check for a Pillow image that is open and not yet loaded."""
    types = {"I;16": "<u2", "I;16B": ">u2", "I": "i4", "F": "f4", "L": "u1", "P": "u1", "1": "u1", "LA": "u1"}
    if image.mode not in types:
        raise InputError(f"a colour image ({image.mode}), not depth; prv2 reads one number per pixel")
    _check((image.height, image.width), np.dtype(types[image.mode]), available)


# --- TIFF ---------------------------------------------------------------------------------------------------


def _decode_tiff(file: BinaryIO) -> Decoded:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        count = len(tiff.pages)  # counting is fast, looking at each of 16,000 is not
        if count > _MAX_PAGES:
            raise InputError(f"a TIFF of {count} pages; a depth map is one")
        pages = [page for page in tiff.pages if not getattr(page, "is_reduced", False)]
        if len(pages) != 1:
            raise InputError(f"a TIFF of {len(pages)} pages; a depth map is one")
        page: Any = pages[0]
        if page.dtype is None:
            raise InputError(f"{page.bitspersample}-bit samples; use 16-bit integers or 32-bit floats")
        _check(page.shape, page.dtype, _size(file) * _MAX_RATIO)
        text = page.description if is_ours(page.description) else None
        check_layout(page)
        check_expansion(file, page)
        try:
            return page.asarray(), text
        except Exception as exc:
            if "imagecodecs" not in str(
                exc
            ):  # a codec that tifffile has only with that package: libtiff has most
                raise
    file.seek(0)
    return _decode_libtiff(file), text


def _decode_libtiff(file: BinaryIO) -> np.ndarray:
    """LZW, floating-point predictor and the like, through Pillow."""
    from PIL.TiffImagePlugin import TiffImageFile

    image = TiffImageFile(file)
    _check_pillow(image, _size(file) * _MAX_RATIO)
    return np.asarray(image)


# --- NumPy --------------------------------------------------------------------------------------------------


def _decode_npy(file: BinaryIO) -> Decoded:
    size = _size(file)
    numbers = _read_array(file, size)
    return numbers, _npy_text(file, size)


def _npy_text(file: BinaryIO, size: int) -> str | None:
    """The metadata that encode_npy left behind the array, which ends where `file` is now."""
    start = file.tell()
    if size - start < 16:
        return None
    file.seek(size - 16)
    length, magic = struct.unpack("<Q8s", file.read(16))
    if magic != NPY_MAGIC:
        return None
    if length != size - 16 - start or length > MAX_JSON:
        raise InputError("the prv2 metadata is wrong: its length does not fit")
    file.seek(start)
    return file.read(length).decode("ascii")


def _array_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, Fortran order, dtype) of the .npy at `file`. _check refuses object arrays: no pickles."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"npy version {version[0]}.{version[1]}; a plain array is version 1.0 or 2.0")
    size = file.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(size, "little")
    if length > _MAX_HEADER:  # NumPy would first read it all: 4 GB out of a small archive
        raise InputError(f"a header of {length} bytes; that of a depth map has about 100")
    header = io.BytesIO(size + file.read(length))
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(header)
    return np.lib.format.read_array_header_2_0(header)


def _read_array(file: Any, available: int) -> np.ndarray:
    """The array at `file`, of which `available` bytes are said to be there."""
    shape, fortran, dtype = _array_header(file)
    _check(shape, dtype, available)
    data = np.empty(math.prod(shape), dtype)
    view = data.view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done : done + (1 << 24)])
        if not count:
            raise InputError("truncated: the array ends early")
        done += count
    return data.reshape(shape, order="F" if fortran else "C")


def _decode_npz(file: BinaryIO) -> Decoded:
    """The array named "depth", else the only 2-D array."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) > _MAX_MEMBERS:
            raise InputError(f"{len(members)} arrays; a depth file has one")
        info = members.get("depth") or _only_map(archive, members)
        text = _npz_text(archive, members)
        # Neither of the two sizes in the archive's index need be true; with the file's they bound what can come out.
        available = min(info.file_size, min(info.compress_size, _size(file)) * _MAX_RATIO)
        with archive.open(info) as member:
            return _read_array(member, available), text


def _only_map(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> zipfile.ZipInfo:
    maps = []
    for key, info in members.items():
        with archive.open(info) as member:
            shape, _, dtype = _array_header(member)
        if len(shape) == 2 and dtype.kind in "iuf":
            maps.append((key, info))
    if len(maps) != 1:
        names = ", ".join(key for key, _ in maps[:5]) or "none"
        raise InputError(f"no array named 'depth' and not exactly one 2-D array (found: {names})")
    return maps[0][1]


def _npz_text(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> str | None:
    info = members.get("metadata")
    if info is None or info.file_size > 5 * MAX_JSON:
        return None
    with archive.open(info) as member:
        shape, _, dtype = _array_header(member)
        if shape != () or dtype.kind != "U" or not 0 < dtype.itemsize <= 4 * MAX_JSON:
            return None
        text = str(np.frombuffer(member.read(dtype.itemsize), dtype)[0])
    return text if is_ours(text) else None


# --- OpenEXR ------------------------------------------------------------------------------------------------


def _decode_exr(file: BinaryIO) -> Decoded:
    """The only channel, or the one called Z ("Z", "depth.Z", ...). OpenEXR reads from a name only."""
    openexr = import_openexr()
    with _path_of(file) as path:
        with openexr.File(str(path), separate_channels=True, header_only=True) as head:
            if len(head.parts) != 1:
                raise InputError(f"an EXR of {len(head.parts)} parts; a depth map is one")
            header = head.header()
            low, high = header["dataWindow"]
            width, height = (int(high[i]) - int(low[i]) + 1 for i in (0, 1))
            names = [channel.name for channel in header["channels"]]
            bytes_each = 4 * len(names)
            _check((height, width), np.dtype("f4"), _size(file) * _MAX_RATIO // bytes_each * 4)
            text = header.get(EXR_KEY)
        if not openexr.InputFile(str(path)).isComplete():  # File() would say so too, but on stderr
            raise InputError("truncated: the picture ends early")
        with openexr.File(str(path), separate_channels=True) as whole:
            numbers = whole.channels()[_depth_channel(names)].pixels
    _check(numbers.shape, numbers.dtype, numbers.nbytes)
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


# --- PFM ----------------------------------------------------------------------------------------------------

_PFM_HEADER = re.compile(
    rb"(P[fF])\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?[0-9.]+(?:[eE][-+]?\d+)?)[ \t]*(?:\r?\n|\s)"
)


def _decode_pfm(file: BinaryIO) -> Decoded:
    """Rows from the bottom up. The sign of the third number is the byte order, its size nothing."""
    match = _PFM_HEADER.match(file.read(256))
    if match is None:
        raise InputError("damaged PFM header")
    if match[1] == b"PF":
        raise InputError("a colour PFM, not depth; prv2 reads one number per pixel")
    width, height, order = int(match[2]), int(match[3]), float(match[4])
    dtype = np.dtype("<f4" if order < 0 else ">f4")
    _check((height, width), dtype, _size(file) - match.end())
    file.seek(match.end())
    data = np.frombuffer(file.read(height * width * 4), dtype)
    return data.reshape(height, width)[::-1], None


DECODERS: dict[str, Callable[[BinaryIO], Decoded]] = {
    "png": _decode_png,
    "tiff": _decode_tiff,
    "npy": _decode_npy,
    "npz": _decode_npz,
    "exr": _decode_exr,
    "pfm": _decode_pfm,
}
