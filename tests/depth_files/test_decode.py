"""Decoding any bytes: refusals of one line that names the file, damage of every format, files that claim too much."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from depth_maps import (
    KINDS,
    TEN,
    clean,
    encoded,
    npy,
    scene,
    skip_without_codec,
)
from PIL import Image

from prv2cli.depth_files.formats import checks, png
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError, Prv2Error


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def picture(mode: str, fmt: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 6), 3 if mode in ("L", "P") else None).save(buffer, fmt)
    return buffer.getvalue()


def tiff(array: np.ndarray, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **kwargs)
    return buffer.getvalue()


def png_bomb() -> bytes:
    """32,000 x 32,000 pixels in some 60 bytes."""
    buffer = io.BytesIO(png.PNG_SIGNATURE)
    buffer.seek(0, io.SEEK_END)
    png._chunk(buffer, b"IHDR", struct.pack(">IIBBBBB", 32000, 32000, 16, 0, 0, 0, 0))
    png._chunk(buffer, b"IDAT", b"\x78\x9c\x03\x00\x00\x00\x00\x01")
    png._chunk(buffer, b"IEND", b"")
    return buffer.getvalue()


def npz_bomb() -> bytes:
    """A header that promises 30,000 x 30,000 doubles, and an archive index that agrees, in 200 bytes."""
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (30000, 30000)}
    np.lib.format.write_array_header_1_0(header, about)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("depth.npy", header.getvalue())
    return buffer.getvalue().replace(
        struct.pack("<I", len(header.getvalue())), struct.pack("<I", 4_000_000_000)
    )


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"depth: 3 metres", "not a depth file"),
    "jpeg": (picture("RGB", "JPEG"), "8-bit picture"),
    "8-bit png": (picture("L", "PNG"), "8-bit"),
    "palette png": (picture("P", "PNG"), "8-bit"),
    "rgb png": (picture("RGB", "PNG"), "colour"),
    "rgb tiff": (tiff(np.arange(60, dtype=np.uint16).reshape(4, 5, 3), photometric="rgb"), "colour"),
    "8-bit tiff": (tiff(np.zeros((4, 5), np.uint8)), "8-bit"),
    "two pages": (tiff(np.ones((2, 4, 5), np.float32), photometric="minisblack"), "2 pages"),
    "8-bit npy": (npy(np.ones((4, 5), np.uint8)), "8-bit"),
    "bool npy": (npy(np.ones((4, 5), bool)), "8-bit"),
    "complex npy": (npy(np.ones((4, 5), complex)), "complex"),
    "3-D npy": (npy(np.ones((2, 4, 5))), r"shape \(2, 4, 5\)"),
    "1-D npy": (npy(np.ones(5)), "2-D"),
    "rgb npy": (npy(np.ones((4, 5, 3))), "colour"),
    "object npy": (npy(np.array([[{}]], object)), "object"),
    "object npz": (npz(depth=np.array([[{}]], object)), "object"),
    "no pixels": (npy(np.ones((0, 5))), "no pixels"),
    "two maps": (npz(a=TEN, b=TEN), "not exactly one 2-D"),
    "no map": (npz(a=np.ones(3)), "not exactly one 2-D"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "not exactly one 2-D"),
    "NaN only": (npy(TEN * np.nan), "no pixel holds a valid depth"),
    "zeros only": (npy(TEN * 0), "no pixel holds a valid depth"),
    "truncated npy": (npy(TEN)[:-1], "truncated"),
    "npy bomb": (npy(TEN).replace(b"(4, 5), }    ", b"(40000, 999) }"), "truncated|too small"),
    "npy of too many pixels": (npy(TEN).replace(b"(4, 5), }      ", b"(90000, 90000) }"), "more than"),
    "npz bomb": (npz_bomb(), "truncated"),
    "png bomb": (png_bomb(), "truncated"),
    "truncated pfm": (b"Pf\n3 2\n-1\n" + bytes(23), "truncated"),
    "colour pfm": (b"PF\n3 2\n-1\n" + bytes(72), "colour"),
    "damaged pfm": (b"Pf\nthree two\n", "PFM header"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_that_names_the_file(folder: Path, name: str) -> None:
    data, reason = BAD[name]
    path = folder / "bad.file"
    path.write_bytes(data)
    with pytest.raises(InputError, match=reason) as caught:
        read_depth(path, scale=1)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_paths_that_are_no_files(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_depth(folder / "none.png")
    with pytest.raises(InputError, match="is a folder"):
        read_depth(folder)
    with pytest.raises(InputError, match="not a file name"):
        read_depth(Path("a\0b"))


@pytest.mark.parametrize(("fmt", "dtype"), [*KINDS, pytest.param("pfm", "float32", id="pfm")])
def test_damage_never_escapes_as_another_exception(folder: Path, fmt: str, dtype: Any) -> None:
    skip_without_codec(fmt)
    pfm = b"Pf\n83 61\n-1.0\n" + clean(scene()).tobytes()
    data = pfm if fmt == "pfm" else encoded(fmt, dtype)
    rng = np.random.default_rng(7)
    path = folder / f"a.{fmt}"
    for trial in range(100):
        damaged = bytearray(data)
        if trial % 3 == 0:
            del damaged[rng.integers(len(data)) :]
        else:
            reach = len(data) if trial % 3 == 1 else min(len(data), 600)  # headers are where it hurts
            for place in rng.integers(reach, size=rng.integers(1, 4)):
                damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        refusal = None
        try:
            found = read_depth(path, scale=1)
        except Prv2Error as error:
            refusal = str(error)
        if refusal is not None:
            assert len(refusal.splitlines()) == 1
            assert str(path) in refusal
        else:
            assert found.values.dtype == np.float32
            assert trial % 3 or bytes(damaged) == data or fmt in ("npz", "npy")  # a cut is noticed


@pytest.mark.parametrize("fmt", ["png", "npz"])
def test_a_checksum_is_looked_at(fmt: str) -> None:
    data = bytearray(encoded(fmt))
    data[len(data) // 2] ^= 4
    with pytest.raises(InputError, match="damaged"):
        read_depth(io.BytesIO(data))


def test_the_size_limit_holds_what_the_program_promises() -> None:
    assert checks.MAX_PIXELS >= 30_000 * 20_000
