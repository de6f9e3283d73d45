"""Colours of HEIC that state no profile."""

from __future__ import annotations

from typing import Any

import pytest

from prv2cli.photo.colour.coded import HDR_NOTE
from prv2cli.photo.formats.heif import _coded_colours


@pytest.mark.parametrize(
    ("primaries", "transfer", "converted", "notes"),
    [
        (1, 13, False, ()),
        (12, 13, True, ()),
        (9, 1, True, ()),
        (9, 16, False, (HDR_NOTE,)),
        (2, 2, False, ()),
    ],
)
def test_coded_colours_are_converted_where_they_are_not_srgb(
    primaries: int, transfer: int, converted: bool, notes: tuple[str, ...]
) -> None:
    code = {"color_primaries": primaries, "transfer_characteristics": transfer}
    info: dict[str, Any] = {"nclx_profile": code}
    found = _coded_colours(info)
    assert ((found.icc is not None), found.notes) == (converted, notes)
    assert _coded_colours({**info, "icc_profile": b"its own"}) == (None, ())
