"""The metadata inside depth files: lies, nonsense, and what later versions add."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from depth_maps import (
    META,
    TEN,
    npy,
)

from prv2cli.depth_files.formats.numpy_arrays import NPY_MAGIC
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError

LIES: list[tuple[dict[str, Any], str]] = [
    ({"scale": 0}, "scale"),
    ({"scale": -256}, "scale"),
    ({"scale": "256"}, "scale"),
    ({"scale": 1e300}, "scale"),
    ({"scale": True}, "scale"),
    ({"unit": "feet"}, "unit"),
    ({"unit": None}, "unit"),
    ({"unit": "1/metre"}, "kind"),
    ({"kind": "disparity"}, "kind"),
    ({"invalid": 7}, "invalid"),
    ({"clipped": -1}, "clipped"),
    ({"focal_px": 0}, "focal_px"),
    ({"model": 3}, "model"),
    ({"extra": []}, "extra"),
    ({"software": "other"}, "software"),
]


@pytest.mark.parametrize(("lie", "reason"), LIES, ids=lambda value: str(value))
def test_metadata_that_lies(lie: dict[str, Any], reason: str) -> None:
    honest = json.loads(META.to_json())
    assert DepthMetadata.from_json(json.dumps(honest)).extra == META.extra
    with pytest.raises(InputError, match=f"metadata is wrong.*{reason}"):
        DepthMetadata.from_json(json.dumps({**honest, **lie}))
    text = json.dumps({**honest, **lie})
    data = npy(TEN) + text.encode() + struct.pack("<Q", len(text)) + NPY_MAGIC
    with pytest.raises(InputError, match=f"metadata is wrong.*{reason}"):
        read_depth(io.BytesIO(data))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"scale": NaN}', "[" * 100_000, '{"scale": 1e999}', "{}"]
)
def test_metadata_that_is_no_metadata(text: str) -> None:
    with pytest.raises(InputError, match="metadata is wrong"):
        DepthMetadata.from_json(text)


def test_keys_of_a_later_version_are_kept() -> None:
    later = DepthMetadata.from_json(json.dumps({**json.loads(META.to_json()), "camera": "a"}))
    assert later.extra == {**META.extra, "camera": "a"}
