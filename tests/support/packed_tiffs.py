"""TIFFs of any byte order, type, compression, predictor and layout: what tifffile writes, packed by hand."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile
from image_files import lzw, packbits


def zstd(data: bytes) -> bytes:
    """A frame of raw blocks, which is legal."""
    blocks = [data[i : i + 65536] for i in range(0, len(data), 65536)]
    parts = [
        struct.pack("<I", len(block) << 3 | (i == len(blocks) - 1))[:3] + block
        for i, block in enumerate(blocks)
    ]
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + b"".join(parts)


PACK: dict[int, Callable[[bytes], bytes]] = {
    1: lambda data: data,
    5: lzw,
    8: zlib.compress,
    32773: packbits,
    34925: lzma.compress,
    50000: zstd,
}


def packed(
    pixels: np.ndarray,
    order: Any,
    code: int,
    predictor: int,
    *,
    planar: bool = False,
    tile: bool = False,
    orientation: int = 1,
) -> io.BytesIO:
    """(H, W) or (H, W, C) as a TIFF; `planar`: a plane for each channel."""
    file = io.BytesIO()
    options: dict[str, Any] = {"tile": (16, 16)} if tile else {"rowsperstrip": 10}
    if pixels.ndim == 3:
        options |= {"photometric": "rgb", "planarconfig": "separate" if planar else "contig"}
    tifffile.imwrite(
        file,
        np.ascontiguousarray(np.moveaxis(pixels, 2, 0) if planar and pixels.ndim == 3 else pixels),
        byteorder=order,
        metadata=None,
        extratags=[
            (65000, 3, 1, predictor, True),
            (274, 3, 1, orientation, True),
        ],  # 65000 becomes the predictor's
        **options,
    )
    file.seek(0)
    with tifffile.TiffFile(file) as opened:
        page = opened.pages.first
        samples = 1 if planar or pixels.ndim == 2 else pixels.shape[2]
        columns = page.tilewidth if tile else page.imagewidth
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        tag = page.tags[65000].offset
    raw = file.getvalue()
    dtype = pixels.dtype.newbyteorder(order)
    rows = [np.frombuffer(raw, dtype, count // dtype.itemsize, start) for start, count in places]
    coded = [PACK[code](_predicted(part.reshape(-1, columns, samples), predictor)) for part in rows]
    starts = [len(raw) + sum(map(len, coded[:i])) for i in range(len(coded))]
    file = io.BytesIO(raw[:tag] + struct.pack(f"{order}H", 317) + raw[tag + 2 :] + b"".join(coded))
    with tifffile.TiffFile(file, mode="r+") as opened:
        tags = opened.pages.first.tags
        offsets, counts = (324, 325) if tile else (273, 279)
        for name, value in ((259, code), (offsets, starts), (counts, [len(part) for part in coded])):
            tags[name].overwrite(value)
    return io.BytesIO(file.getvalue())


def _predicted(values: np.ndarray, predictor: int) -> bytes:
    """(rows, columns, samples) of the file's type, with TIFF's predictor 1, 2 or 3 applied."""
    if predictor == 3:
        planes = values.astype(values.dtype.newbyteorder(">")).view(np.uint8)
        planes = planes.reshape(len(values), -1, values.dtype.itemsize).transpose(0, 2, 1)
        flat = planes.reshape(len(values), -1, values.shape[2]).copy()
        flat[:, 1:] -= flat[:, :-1].copy()
        return flat.tobytes()
    if predictor == 1:
        return values.tobytes()
    bits = values.astype(values.dtype.newbyteorder("=")).view(f"u{values.dtype.itemsize}").copy()
    bits[:, 1:] -= bits[:, :-1].copy()
    return bits.astype(bits.dtype.newbyteorder(values.dtype.byteorder)).tobytes()
