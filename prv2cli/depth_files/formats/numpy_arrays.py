"""NumPy's .npy and .npz, float32; others' arrays of any plain number type are read. No pickles.

The metadata is the member "metadata" of an .npz. In an .npy it stands behind the array, where `np.load` does not look:
the JSON, its length as 8 bytes little endian, and the 8 bytes of NPY_MAGIC.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np

from prv2cli.depth_files.formats.checks import MAX_RATIO, Decoded, check, map_shape, size_of
from prv2cli.depth_files.formats.rows import FLOAT_LEVEL, Rows
from prv2cli.depth_files.ours.metadata import MAX_JSON, is_ours
from prv2cli.errors import InputError
from prv2cli.files.text import shown

NPY_MAGIC = b"prv2meta"
_MAX_MEMBERS = 256  # arrays in an .npz
_LISTED = 12  # of them in a message
_MATRICES = ((3, 3), (4, 4))
_MAX_HEADER = 1 << 16  # bytes of text before the numbers of an .npy


def encode_npy(file: BinaryIO, rows: Rows, text: str) -> None:
    """A plain .npy with the metadata behind the array."""
    _write_npy(file, rows)
    data = text.encode("ascii")
    file.write(data + struct.pack("<Q", len(data)) + NPY_MAGIC)


def _write_npy(file: Any, rows: Rows) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": rows.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for band in rows:
        file.write(band.astype("<f4", copy=False).data)


def encode_npz(file: BinaryIO, rows: Rows, text: str) -> None:
    """`depth` (H, W) float32 and `metadata`, a 0-d string; `np.load` reads both with allow_pickle=False."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=FLOAT_LEVEL) as archive:
        with archive.open("depth.npy", "w", force_zip64=True) as member:
            _write_npy(member, rows)
        with archive.open("metadata.npy", "w") as member:
            np.lib.format.write_array(member, np.array(text), allow_pickle=False)


def decode_npy(file: BinaryIO) -> Decoded:
    size = size_of(file)
    numbers = _read_array(file, size)
    text = _npy_text(file, size)
    if text is None:
        _refuse_matrix(numbers.shape)
    return Decoded(numbers, text)


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
    """(shape, Fortran order, dtype) of the .npy at `file`. check() refuses object arrays: no pickles."""
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
    check(map_shape(shape), dtype, available)
    data = np.empty(math.prod(shape), dtype)
    view = data.view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done : done + (1 << 24)])
        if not count:
            raise InputError("truncated: the array ends early")
        done += count
    # Without axes of length 1 the numbers lie in the same order.
    return data.reshape(map_shape(shape), order="F" if fortran else "C")


def decode_npz(file: BinaryIO, name: str | None = None) -> Decoded:
    """The array called `name`; by default "depth", else the only one that can be a map."""
    with zipfile.ZipFile(file) as archive:
        members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
        if len(members) > _MAX_MEMBERS:
            raise InputError(f"{len(members)} arrays; a depth file has one")
        key = _chosen(archive, members, name)
        info = members[key]
        text = _npz_text(archive, members) if key == "depth" else None
        # Neither of the two sizes in the archive's index need be true; with the file's they bound what can come out.
        available = min(info.file_size, min(info.compress_size, size_of(file)) * MAX_RATIO)
        with archive.open(info) as member:
            numbers = _read_array(member, available)
    if text is None:
        _refuse_matrix(numbers.shape)
    return Decoded(numbers, text)


def _chosen(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str | None) -> str:
    """The key of the array to read. Refuses what is not clear, naming all arrays."""
    if name is None and "depth" in members:
        return "depth"
    if name in members:
        return str(name)
    found = {key: _array_header_of(archive, info) for key, info in members.items()}
    listed = ", ".join(
        f"{shown(key)} {'x'.join(map(str, shape)) or 'one'} {dtype}"
        for key, (shape, dtype) in list(found.items())[:_LISTED]
    )
    if name is not None:
        raise InputError(f"no array named {shown(name)!r} (found: {listed or 'none'})")
    maps = [key for key, (shape, dtype) in found.items() if _may_be_map(shape, dtype)]
    if len(maps) != 1:
        way = f"; say which: FILE.npz:{shown(maps[0])}" if maps else ""
        raise InputError(
            f"no array named 'depth' and not exactly one 2-D array (found: {listed or 'none'}){way}"
        )
    return maps[0]


def _array_header_of(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(info) as member:
        shape, _, dtype = _array_header(member)
    return shape, dtype


def _may_be_map(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether an array beside others can be the depth map: no matrix of a camera, no vector, no mask."""
    shape = map_shape(shape)
    return (
        len(shape) == 2
        and dtype.kind in "iuf"
        and dtype.itemsize > 1
        and min(shape) > 1
        and shape not in (*_MATRICES, (3, 4))
    )


def _refuse_matrix(shape: tuple[int, ...]) -> None:
    if shape in _MATRICES:
        raise InputError(
            f"an array of {shape[0]} x {shape[1]} numbers: the matrix of a camera, not a depth map"
        )


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
