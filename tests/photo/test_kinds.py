"""The kinds of photographs: each has its decoder, and the names by which a batch and a data set look for them."""

from __future__ import annotations

from prv2cli.photo.formats.decode import DECODERS
from prv2cli.photo.kinds import PHOTO_SUFFIXES, SUFFIXES


def test_every_kind_has_its_decoder() -> None:
    assert set(SUFFIXES) == set(DECODERS)


def test_what_is_looked_for_in_folders() -> None:
    assert sorted(PHOTO_SUFFIXES) == sorted(
        [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif"]
    )
