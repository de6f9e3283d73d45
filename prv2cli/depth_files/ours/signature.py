"""Pictures that prv2 makes (previews, error maps) say so: nobody takes them for photographs by mistake.

picture.save(file, kind, **signature(kind))       is_signed(file)
"""

from __future__ import annotations

import io
import warnings
from typing import Any, BinaryIO

from prv2cli.depth_files.ours.metadata import SOFTWARE
from prv2cli.version import __version__

MADE_BY = f"{SOFTWARE} {__version__}"
_SOFTWARE_TAG = 0x0131  # of EXIF
_ENDS = 4096  # bytes at both ends of a file, where encoders put such texts


def signature(kind: str, holds: str | None = None) -> dict[str, Any]:
    """What to give to Pillow's save() for a PNG, JPEG or WEBP; `holds`: what the picture is, in a word."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    made_by = f"{MADE_BY} {holds}" if holds else MADE_BY
    if kind == "PNG":
        text = PngInfo()
        text.add_text("Software", made_by)
        return {"pnginfo": text}
    exif = Image.Exif()
    exif[_SOFTWARE_TAG] = made_by
    return {"exif": exif}


def is_signed(file: BinaryIO) -> bool:
    """Whether a PNG, JPEG or WebP, which stands at its start, says that prv2 made it; no pixel is decoded."""
    head = file.read(_ENDS)
    if not head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")):
        return False
    file.seek(max(0, file.seek(0, io.SEEK_END) - _ENDS))
    if SOFTWARE.encode() not in head + file.read():  # most photographs are done with here
        return False
    file.seek(0)
    return _said_by(file, head[:1]).startswith(SOFTWARE)


def _said_by(file: BinaryIO, first: bytes) -> str:
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    plugin: Any = {b"\x89": PngImageFile, b"\xff": JpegImageFile, b"R": WebPImageFile}[first]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = plugin(file)  # by class: Image.open has a limit of pixels
            return str(picture.info.get("Software") or picture.getexif().get(_SOFTWARE_TAG))
    except Exception:  # Pillow raises dozens of kinds for damaged files: those say nothing
        return ""
