"""Sets of photographs with depth in metres, up to scale, or up to scale and shift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from rgbd_sets import write_set

from prv2cli.datasets.rgbd import Knowledge, Rgbd, RgbdData, sky
from prv2cli.errors import InputError, UsageError


@pytest.mark.parametrize(
    ("kind", "scale", "known", "factor"),
    [
        ("depth", 0.001, Knowledge.METRES, 1.0),
        ("depth", None, Knowledge.UP_TO_SCALE, 0.001),
        ("inverse", None, Knowledge.UP_TO_SCALE_AND_SHIFT, 20_000.0),
    ],
)
def test_every_kind_becomes_inverse_depth(
    tmp_path: Path, kind: str, scale: float | None, known: Knowledge, factor: float
) -> None:
    data = Rgbd(RgbdData(root=write_set(tmp_path / "set", kind=kind, scale=scale)))
    sample = data[1]
    assert (len(data), sample.name, sample.known) == (4, "set/0001", known)
    assert (sample.rgb.shape, sample.inverse.shape) == ((96, 128, 3), (48, 64))
    np.testing.assert_allclose(sample.inverse[30], factor * np.linspace(0.2, 1.0, 64), rtol=2e-3)


def test_what_is_not_measured_is_not_known(tmp_path: Path) -> None:
    inverse = Rgbd(RgbdData(root=write_set(tmp_path)))[0].inverse
    assert np.isnan(inverse[:8, :8]).all()
    assert np.isnan(inverse).sum() == 64


def test_the_last_pictures_are_held_out(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    kept = Rgbd(RgbdData(root=root, hold_out=1)).names
    held = Rgbd(RgbdData(root=root, hold_out=1, held_out=True)).names
    assert (kept, held) == (["set/0000", "set/0001", "set/0002"], ["set/0003"])
    with pytest.raises(InputError, match="beyond the 4 of hold_out"):
        Rgbd(RgbdData(root=root, hold_out=4))
    with pytest.raises(ValidationError, match="hold_out says that none are"):
        RgbdData(root=root, held_out=True)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"kind": "disparity"}', '{"kind": "depth", "scale_to_metres": 0}', "{"]
)
def test_a_wrong_meta_file_is_named(tmp_path: Path, text: str) -> None:
    write_set(tmp_path)
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(InputError, match=r"meta\.json"):
        Rgbd(RgbdData(root=tmp_path))


def test_wrong_pictures_are_named(tmp_path: Path) -> None:
    data = Rgbd(RgbdData(root=write_set(tmp_path)))
    Image.fromarray(np.ones((48, 48), np.uint16)).save(tmp_path / "depth" / "0001.png")
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(tmp_path / "depth" / "0002.png")
    (tmp_path / "rgb" / "0003.png").write_bytes(b"no picture")
    for index, what in ((1, "48 x 48 has another aspect"), (2, "no pixel has a depth"), (3, r"0003\.png")):
        with pytest.raises(InputError, match=what):
            data[index]
    with pytest.raises(UsageError, match="no such folder"):
        Rgbd(RgbdData(root=tmp_path / "nowhere"))


def test_the_sky_is_what_is_plain_from_the_upper_border_on() -> None:
    pytest.importorskip("cv2")
    photograph = np.full((40, 60, 3), (90, 130, 220), np.uint8)
    photograph[25:] = (60, 90, 40)
    photograph[5:25, 30:34] = (40, 40, 40)  # a pole that reaches down to the ground
    photograph[30:34, 5:20] = (90, 130, 220)  # a puddle
    found = sky(photograph, (40, 60))
    assert found[2:24, 2:28].all()
    assert found[2:24, 36:58].all()
    assert not found[26:].any()
    assert not found[6:24, 31:33].any()


def test_a_sky_counts_as_infinitely_far_where_that_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    root = write_set(tmp_path)
    photograph = np.full((96, 128, 3), (90, 130, 220), np.uint8)
    photograph[50:] = 0
    Image.fromarray(photograph).save(root / "rgb" / "0001.png")
    inverse = Rgbd(RgbdData(root=root, sky_is_far=True))[1].inverse
    assert (inverse[:23] == 0).all()
    assert (inverse[26:] > 0).all()
