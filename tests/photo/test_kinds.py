"""The kinds of photographs: each has its decoder, and the names by which a batch and a data set look for them."""

from __future__ import annotations

import pytest
from PIL import Image

from prv2cli.photo.formats.decode import DECODERS
from prv2cli.photo.kinds import PHOTO_SUFFIXES, SUFFIXES, overlooked


def test_every_kind_has_its_decoder() -> None:
    assert set(SUFFIXES) == set(DECODERS)


def test_every_kind_is_looked_for_in_folders() -> None:
    assert all(SUFFIXES.values()), "a kind that is read has a usual name"
    assert {".jpg", ".jpe", ".jfif", ".tiff", ".avif", ".hif", ".dib"} <= PHOTO_SUFFIXES
    Image.init()
    named = {"JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP", "TIFF": "TIFF", "AVIF": "AVIF"}
    for kind, plugin in named.items():  # what the library that reads it knows it by
        assert {suffix for suffix, name in Image.EXTENSION.items() if name == plugin} <= {*SUFFIXES[kind]}


@pytest.mark.parametrize(
    ("head", "name", "why"),
    [
        (b"\xff\xd8\xff\xe0", "photo", "JPEG of an unusual name"),
        (b"\x89PNG\r\n\x1a\n", "a.png.bak", "PNG of an unusual name"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a.cr2", "camera raw"),
        (b"anything", "a.NEF", "camera raw"),
        (b"GIF89a", "a.gif", "a GIF, which prv2 does not read"),
        (b"{}", "a.json", None),
        (b"v/1\x01", "depth.exr", None),
        (b"", "a.txt", None),
    ],
)
def test_what_people_would_miss_is_known_by_its_content(head: bytes, name: str, why: str | None) -> None:
    found = overlooked(head, name)
    assert (found is None) == (why is None)
    assert (why or "") in (found or "")
