"""PFM, which others write: float32, rows from the bottom up."""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np

from prv2cli.depth_files.formats.checks import Decoded, check, size_of
from prv2cli.errors import InputError

_HEADER = re.compile(rb"(P[fF])\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?[0-9.]+(?:[eE][-+]?\d+)?)[ \t]*(?:\r?\n|\s)")


def decode_pfm(file: BinaryIO) -> Decoded:
    """Rows from the bottom up. The sign of the third number is the byte order, its size nothing."""
    match = _HEADER.match(file.read(256))
    if match is None:
        raise InputError("damaged PFM header")
    if match[1] == b"PF":
        raise InputError("a colour PFM, not depth; prv2 reads one number per pixel")
    width, height, order = int(match[2]), int(match[3]), float(match[4])
    dtype = np.dtype("<f4" if order < 0 else ">f4")
    check((height, width), dtype, size_of(file) - match.end())
    file.seek(match.end())
    data = np.frombuffer(file.read(height * width * 4), dtype)
    return Decoded(data.reshape(height, width)[::-1], None)
