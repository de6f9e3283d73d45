"""The depth that came inside a photograph.

JPEG ─ JpegParts ─ dynamic_depth, gdepth, apple_jpeg ─ turned upright ─┐
HEIC ─ heic_depth, upright already ────────────────────────────────────┴─> EmbeddedDepth
"""

from __future__ import annotations

from typing import BinaryIO

from prv2cli.depth_files.embedded.apple import apple_jpeg
from prv2cli.depth_files.embedded.dynamic_depth import dynamic_depth
from prv2cli.depth_files.embedded.gdepth import gdepth
from prv2cli.depth_files.embedded.heic import heic_depth
from prv2cli.depth_files.embedded.jpeg_parts import JpegParts
from prv2cli.depth_files.embedded.levels import EmbeddedDepth
from prv2cli.errors import InputError, Prv2Error

_IN_JPEG = (dynamic_depth, gdepth, apple_jpeg)
_AVIF = (b"avif", b"avis")


def read_embedded(file: BinaryIO, label: str) -> EmbeddedDepth:
    """The depth in a photograph, turned upright as the photograph is. The file, seekable, is left at its start.

    Raises:
        InputError: a photograph without depth, damaged depth. MissingExtraError: HEIC without its extra.
    """
    try:
        file.seek(0)
        data = file.read()
        file.seek(0)
        found = _find(data, label)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(label) else f"{label}: {text}") from error
    except Prv2Error:
        raise
    except MemoryError as error:
        raise InputError(f"{label}: not enough memory to read its depth") from error
    except Exception as error:  # the decoders meet arbitrary bytes
        detail = str(error).partition("\n")[0][:120] or type(error).__name__
        raise InputError(f"{label}: the depth in it is damaged or cut short ({detail})") from error
    if found is None:
        raise InputError(
            f"{label}: holds no depth that prv2 finds (HEIC auxiliary depth, GDepth, Dynamic Depth, Apple's JPEG); "
            "give a map with --coarse-depth FILE, or leave it out to have a network estimate the depth"
        )
    return found


def _find(data: bytes, label: str) -> EmbeddedDepth | None:
    if data.startswith(b"\xff\xd8\xff"):
        jpeg = JpegParts(data)
        for reader in _IN_JPEG:
            found = reader(jpeg)
            if found is not None:
                return found.turned(jpeg.orientation)
        return None
    if data[4:8] == b"ftyp" and data[8:12] not in _AVIF:
        return heic_depth(data, label)
    return None
