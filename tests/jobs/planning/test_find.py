"""What a batch works on, and what it leaves out: nothing goes without a word."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from closed_folders import close_folder
from PIL import Image

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.preview import write_preview
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.errors import InputError
from prv2cli.jobs.planning.find import LINK, OURS, SPECIAL, Found, find_photographs, listed_photographs

NOWHERE = Path("nowhere")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.jpg", "in/b.png", "in/below/c.jpg", "elsewhere/d.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(name)
    return tmp_path


def _names(found: Found) -> list[str]:
    return [str(path) for path, _ in found.photographs]


def _left(found: Found) -> dict[str, str]:
    return {str(path): why for path, why in found.left_out}


def _look(*inputs: str, recursive: bool = True) -> Found:
    return find_photographs([Path(i) for i in inputs], recursive=recursive, leave_out=NOWHERE)


def test_readable_kinds_of_all_names() -> None:
    for name in ("e.jfif", "f.JPE", "g.avif"):
        (Path("in") / name).write_bytes(Path("in/a.jpg").read_bytes())
    assert _names(_look("in", recursive=False)) == [
        "in/a.jpg",
        "in/b.png",
        "in/e.jfif",
        "in/f.JPE",
        "in/g.avif",
    ]


def test_what_people_would_miss_is_named() -> None:
    Path("in/photo").write_bytes(Path("in/a.jpg").read_bytes())
    Path("in/raw.nef").write_bytes(b"II*\0")
    Path("in/notes.txt").write_text("nothing")
    Path("in/link").symlink_to(Path("elsewhere").absolute())
    os.mkfifo("in/pipe.jpg")
    found = _look("in")
    assert _names(found) == ["in/a.jpg", "in/b.png", "in/below/c.jpg"]
    left = _left(found)
    assert set(left) == {"in/photo", "in/raw.nef", "in/link", "in/pipe.jpg"}
    assert (left["in/link"], left["in/pipe.jpg"]) == (LINK, SPECIAL)
    assert "JPEG" in left["in/photo"]
    assert "raw" in left["in/raw.nef"]


@pytest.mark.parametrize("place", ["in", "in/below", "in/depth"])
def test_own_outputs_are_no_photographs(place: str) -> None:
    depth = np.ones((8, 8), np.float32)
    Path(place).mkdir(exist_ok=True)
    write_depth(Path(place, "x.tif"), depth, DepthMetadata())
    write_depth(Path(place, "y.png"), depth, DepthMetadata(kind="confidence", unit="fraction"))
    for name in ("p.png", "p.jpg", "p.webp"):
        write_preview(Path(place, name), depth)
    for found in (
        _look("in"),
        _look(f"{place}/*", "in"),
        listed_photographs(f"{place}/x.tif".encode(), nul=False),
    ):
        assert not {Path(name).name for name in _names(found)} & {
            "x.tif",
            "y.png",
            "p.png",
            "p.jpg",
            "p.webp",
        }
        assert _left(found)[f"{place}/x.tif"] == OURS
    assert len(_left(_look("in"))) == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
@pytest.mark.parametrize("inputs", ["in", "in/**/*.jpg", "in/*/*.jpg"])
def test_a_folder_that_may_not_be_looked_into_is_told(inputs: str) -> None:
    Path("in/below").chmod(0)
    try:
        assert [str(path) for path, _ in _look(inputs).unseen] == ["in/below"]
    finally:
        Path("in/below").chmod(0o755)


@pytest.mark.parametrize("inputs", ["in", "in/**/*.jpg", "in/*/*.jpg"])
def test_a_folder_that_cannot_be_read_is_told(inputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, for those who are root."""
    close_folder(monkeypatch, "below")
    assert [str(path) for path, _ in _look(inputs).unseen] == ["in/below"]


def test_a_mistyped_pattern_is_told_though_another_folder_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close_folder(monkeypatch, "below")
    with pytest.raises(InputError, match=r"other/\*\.jgp: no such file, and nothing matches"):
        _look("in", "other/*.jgp")


def test_a_file_given_twice_is_done_once() -> None:
    found = _look("in/a.jpg", "./in/../in/a.jpg", "in", str(Path("in/a.jpg").absolute()))
    assert [Path(name).name for name in _names(found)] == ["a.jpg", "b.png", "c.jpg"]
    Path("in/other.jpg").symlink_to("a.jpg")  # another name is another photograph
    assert len(_names(_look("in", recursive=False))) == 3


@pytest.mark.parametrize(
    ("name", "pattern", "found"),
    [
        ("x[1]/a.jpg", "x[1]/*.jpg", ["x[1]/a.jpg"]),
        ("x[1]/a.jpg", "x[1]/a.jpg", ["x[1]/a.jpg"]),
        ("x1/a.jpg", "x[1]/*.jpg", ["x1/a.jpg"]),
        ("a[b].jpg", "a[b].jpg", ["a[b].jpg"]),
        ("ab.jpg", "a[b].jpg", ["ab.jpg"]),
        ("x*/a[0].jpg", "x*/a[0].jpg", ["x*/a[0].jpg"]),
    ],
)
def test_a_name_is_tried_before_it_is_a_pattern(name: str, pattern: str, found: list[str]) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(Path("in/a.jpg").read_bytes())
    assert _names(_look(pattern)) == found


def test_what_may_not_be_seen_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    with pytest.raises(InputError, match="no such file"):
        _look("none.jpg")
    monkeypatch.setattr(Path, "lstat", closed)
    with pytest.raises(InputError, match=r"none\.jpg: no permission"):
        _look("none.jpg")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_lists_of_all_encodings(encoding: str, end: str) -> None:
    Path("in/é.jpg").write_bytes(Path("in/a.jpg").read_bytes())
    text = f"in/é.jpg{end}in/a.jpg{end}".encode(encoding)
    assert _names(listed_photographs(text, nul=end == "\0")) == ["in/é.jpg", "in/a.jpg"]


def test_a_list_that_is_not_what_it_begins_as() -> None:
    with pytest.raises(InputError, match="utf-16"):
        listed_photographs(b"\xff\xfe\x00\xd8a", nul=False)
    for name in ("in/a\0b.jpg", "in/\0*.jpg"):
        with pytest.raises(InputError, match="no file has a NUL in its name"):
            find_photographs([Path(name)], recursive=False, leave_out=Path("out"))
    with pytest.raises(InputError, match=r"separated by NUL.*--null"):
        listed_photographs(b"in/a.jpg\0in/b.jpg\0", nul=False)
