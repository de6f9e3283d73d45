"""Maps and photographs that belong together: by folder and name, told where they do not or not clearly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prv2cli.errors import UsageError
from prv2cli.jobs.planning.find import find_photographs
from prv2cli.jobs.planning.pairs import ORPHAN, Pairs, pair


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())


def _pair(
    template: str | None = None, *, photos: str = "in", maps: str = "maps", recursive: bool = True
) -> Pairs:
    found = find_photographs([Path(photos)], recursive=recursive, leave_out=Path("out"))
    return pair(found.photographs, Path(maps), template, recursive=recursive, leave_out=Path("out"))


def _names(found: Pairs) -> dict[str, str]:
    return {str(photo): str(path) for photo, path in found.map_of.items()}


def test_by_relative_path_and_stem(folder: Path) -> None:
    _touch("in/a.jpg", "in/b.jpg", "in/below/a.png", "in/below/deep/c.tif")
    _touch(
        "maps/a.npy",
        "maps/b.PNG",
        "maps/below/a.exr",
        "maps/below/deep/c.webp",
        "maps/below/c.npy",
        "maps/.d.npy",
    )
    found = _pair()
    assert _names(found) == {
        "in/a.jpg": "maps/a.npy",
        "in/b.jpg": "maps/b.PNG",
        "in/below/a.png": "maps/below/a.exr",
        "in/below/deep/c.tif": "maps/below/deep/c.webp",
    }
    assert (found.unpaired, [tuple(map(str, one)) for one in found.left_out]) == (
        [],
        [("maps/below/c.npy", ORPHAN)],
    )
    assert [str(photo) for photo, _ in found.photographs] == list(_names(found))


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{stem}_depth.png", "a_depth.png"),
        ("{stem}_depth", "a_depth.npy"),
        ("{name}.tiff", "a.jpg.tiff"),
        ("{stem}/depth.exr", "a/depth.exr"),
        ("{stem}.npz:depth", "a.npz"),
    ],
)
def test_other_names(folder: Path, template: str, name: str) -> None:
    _touch("in/a.jpg", f"maps/{name}", "maps/x.txt")
    found = _pair(template)
    assert _names(found) == {"in/a.jpg": f"maps/{name}" + (":depth" if ":" in template else "")}
    assert found.left_out == []


def test_what_has_no_map_is_told_with_the_place_and_a_way(folder: Path) -> None:
    _touch("in/a.jpg", "in/b.jpg", "maps/b.npy")
    found = _pair()
    ((photo, why),) = found.unpaired
    assert str(photo) == "in/a.jpg"
    assert why.startswith("no depth map maps/a.*; --coarse-name '{stem}_depth.png'")
    assert [str(photo) for photo, _ in found.photographs] == ["in/b.jpg"]
    assert "maps/a_depth.png;" in _pair("{stem}_depth.png").unpaired[0][1]


def test_several_maps_of_one_photograph(folder: Path) -> None:
    _touch("in/a.jpg", "maps/a.npy", "maps/a.png")
    found = _pair()
    assert found.map_of == {}
    assert (
        found.unpaired[0][1]
        == "several depth maps: maps/a.npy, maps/a.png; say which with --coarse-name '{stem}.npy'"
    )
    assert found.left_out == []
    assert _names(_pair("{stem}.png")) == {"in/a.jpg": "maps/a.png"}


def test_one_map_of_several_photographs(folder: Path) -> None:
    _touch("in/a.jpg", "in/a.png", "maps/a.npy")
    found = _pair()
    assert found.map_of == {}
    assert len(found.unpaired) == 2
    assert "could be of in/a.jpg, in/a.png; name maps by whole names" in found.unpaired[0][1]


def test_maps_below_the_photographs_are_no_photographs(folder: Path) -> None:
    _touch("in/a.jpg", "in/depth/a.png", "in/depth/b.png")
    found = _pair(maps="in/depth")
    assert _names(found) == {"in/a.jpg": "in/depth/a.png"}
    assert found.unpaired == []
    assert [str(one.path) for one in found.left_out] == ["in/depth/b.png"]
    assert {str(path) for path in found.maps} == {"in/depth/a.png", "in/depth/b.png"}


def test_maps_beside_the_photographs(folder: Path) -> None:
    _touch("in/a.jpg", "in/a_depth.png", "in/b.png", "in/b_depth.npy")
    found = _pair("{stem}_depth", maps="in")
    assert _names(found) == {"in/a.jpg": "in/a_depth.png", "in/b.png": "in/b_depth.npy"}
    assert (found.unpaired, found.left_out) == ([], [])


def test_a_stem_that_ends_like_a_file_is_a_stem(folder: Path) -> None:
    _touch("in/a.tif.jpg", "in/b.png.webp", "maps/a.tif.png", "maps/a.tif")
    found = _pair()
    assert _names(found) == {"in/a.tif.jpg": "maps/a.tif.png"}
    assert "no depth map maps/b.png.*" in found.unpaired[0][1]


def test_a_map_that_is_called_like_the_stem_itself(folder: Path) -> None:
    _touch("in/a.tif.jpg", "maps/a.tif")
    assert _names(_pair()) == {"in/a.tif.jpg": "maps/a.tif"}


def test_two_that_could_each_be_the_map_of_the_other_are_told(folder: Path) -> None:
    _touch("in/a.jpg", "in/a.png", "in/b.jpg", "in/b.npy")
    found = _pair(maps="in")
    assert _names(found) == {"in/b.jpg": "in/b.npy"}
    said = {str(photo): why for photo, why in found.unpaired}
    assert said.keys() == {"in/a.jpg", "in/a.png"}
    assert "in/a.png could each be the depth map of the other" in said["in/a.jpg"]
    assert "--coarse-name, such as '{stem}.png'" in said["in/a.jpg"]
    assert _names(_pair("{stem}.png", maps="in")) == {"in/a.jpg": "in/a.png"}


def test_no_photograph_is_its_own_map(folder: Path) -> None:
    _touch("in/a.png", "maps/x.npy")
    os.link("in/a.png", "maps/a.png")
    for maps in ("in", "maps"):
        assert [str(photo) for photo, _ in _pair(maps=maps).unpaired] == ["in/a.png"]


def test_without_r_only_the_folder_itself_is_looked_at(folder: Path) -> None:
    _touch("in/a.jpg", "maps/a.npy", "maps/below/x.npy", "maps/y.npy")
    assert [str(one.path) for one in _pair(recursive=False).left_out] == ["maps/y.npy"]


def test_the_output_folder_holds_no_orphans(folder: Path) -> None:
    _touch("in/a.jpg", "a.npy", "out/b.tif")
    assert [str(one.path) for one in _pair(maps=".").left_out] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_cannot_be_looked_into_is_told(folder: Path) -> None:
    _touch("in/a.jpg", "maps/closed/x.npy", "maps/a.npy")
    Path("maps/closed").chmod(0)
    found = _pair()
    Path("maps/closed").chmod(0o700)
    assert [str(one.path) for one in found.unseen] == ["maps/closed"]


@pytest.mark.parametrize(
    "template", ["depth.png", "../{stem}.png", "{other}.png", "/{stem}.png", "{stem!r}.png"]
)
def test_templates_that_cannot_work(folder: Path, template: str) -> None:
    _touch("in/a.jpg", "maps/a.npy")
    with pytest.raises(UsageError, match="--coarse-name"):
        _pair(template)


def test_a_folder_is_wanted(folder: Path) -> None:
    _touch("in/a.jpg", "map.npy")
    for maps in ("nowhere", "map.npy"):
        with pytest.raises(UsageError, match=f"--coarse-depth {maps}: no such folder"):
            _pair(maps=maps)
