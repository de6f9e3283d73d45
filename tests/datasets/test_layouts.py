"""What holds for every layout, and scenes drawn on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, opened, picture, png16, ramp
from pydantic import ValidationError

from prv2cli.datasets import layouts
from prv2cli.datasets.samples import Readable, left_out
from prv2cli.errors import InputError, Prv2Error, UsageError


def test_procedural_is_the_scene_of_its_seed() -> None:
    pytest.importorskip("cv2")
    from prv2cli.scenes.make import make_scene

    data = opened(layout="procedural", scenes=3, size=64, seed=5)
    assert len(data) == 3
    scene = make_scene((5, 2), 64)
    np.testing.assert_array_equal(data[2].truth, scene.depth)
    np.testing.assert_array_equal(data[2].rgb, scene.rgb)
    assert (data[1].rgb != data[2].rgb).any()


ALL_LAYOUTS = [kind.model_fields["layout"].default for kind in layouts._LAYOUTS]


@pytest.mark.parametrize("name", [name for name in ALL_LAYOUTS if name not in ("procedural", "manifest")])
def test_an_empty_folder_and_a_missing_one(tmp_path: Path, name: str) -> None:
    if name == "folder":
        (tmp_path / "images").mkdir()
        (tmp_path / "depth").mkdir()
    if name == "cityscapes":
        (tmp_path / "leftImg8bit/val").mkdir(parents=True)
    with pytest.raises(InputError, match=r"data\.root .*: no "):
        opened(layout=name, root=tmp_path)
    with pytest.raises(UsageError, match=r"data\.root .*none: no such folder"):
        opened(layout=name, root=tmp_path / "none")


def test_an_unknown_layout_or_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'kitti', 'scannetpp'"):
        opened(layout="kity", root=tmp_path)
    with pytest.raises(ValidationError, match="no such setting; did you mean split"):
        opened(layout="kitti", root=tmp_path, splt="x")


def test_broken_samples_are_told_once_and_left_out(tmp_path: Path) -> None:
    breaks: dict[str, Callable[[Path], object]] = {
        "b": lambda root: (root / "images/b.png").write_bytes(b"\x89PNG\r\n\x1a\n"),
        "c": lambda root: (root / "depth/c.png").unlink(),
        "d": lambda root: picture(root / "images/d.png", (5, 5)),
        "e": lambda root: png16(root / "depth/e.png", np.zeros(SIZE)),
    }
    for name in "abcdef":
        picture(tmp_path / f"images/{name}.png")
        png16(tmp_path / f"depth/{name}.png", ramp(256, 512))
    for spoil in breaks.values():
        spoil(tmp_path)
    told: list[str] = []
    readable = Readable(opened(layout="folder", root=tmp_path, scale=256), told.append)
    for _ in range(2):
        assert [sample.name for sample in readable] == ["a", "f"]
    assert [line.split(" is left out: ")[0] for line in told] == list(breaks)
    assert "\n" not in left_out("a\n\x1b[2Jb", InputError("c"))
    assert "5 x 5 and its depth 8 x 6" in readable.broken["d"]
    assert list(readable.broken) == list(breaks)
    assert [s.name for s in Readable(opened(layout="folder", root=tmp_path, scale=256), told.append, 1)] == [
        "a"
    ]


def test_a_missing_unit_is_no_broken_sample(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    png16(tmp_path / "depth/a.png", ramp(256, 512))
    told: list[str] = []
    with pytest.raises(Prv2Error, match=r"data\.scale"):
        list(Readable(opened(layout="folder", root=tmp_path), told.append))
    assert not told
