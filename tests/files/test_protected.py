"""Files that may not be replaced are known by what they are, not by what they are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prv2cli.errors import UsageError
from prv2cli.files.protected import Protected, identity, place_key


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Protected:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(b"photo")
    Path("model").mkdir()
    Path("model/weights").write_bytes(b"weights")
    Path("depth").mkdir()
    for name in ("other", "depth/other"):
        Path(name).write_bytes(b"other")
    Path("link").symlink_to("photo.jpg")
    Path("hard").hardlink_to("photo.jpg")
    found = Protected()
    found.add("the photograph", Path("photo.jpg"))
    found.add("the model", Path("model"), inside=True)
    found.add("a folder that is none of the user's files", Path("depth"))
    found.add("what is not there", Path("none"))
    found.add("nothing", None)
    return found


@pytest.mark.parametrize(
    "name", ["photo.jpg", "./model/../photo.jpg", "link", "hard", "model/weights"], ids=str
)
def test_by_whatever_name(inputs: Protected, name: str) -> None:
    for path in (Path(name), Path(name).absolute()):
        with pytest.raises(UsageError, match=f"-o .*{Path(name).name}: that is the (photograph|model)"):
            inputs.check("-o", path)


@pytest.mark.parametrize("name", ["other", "depth/other", "none", "new", "model", "a\0b", "/dev/null"])
def test_others_are_free(inputs: Protected, name: str) -> None:
    inputs.check("-o", Path(name))
    assert inputs.at(Path(name)) is None


def test_only_regular_files_have_an_identity(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert identity(tmp_path) is identity(tmp_path / "pipe") is identity(tmp_path / "none") is None
    (tmp_path / "file").touch()
    with (tmp_path / "file").open() as file:
        assert identity(file.fileno()) == identity(tmp_path / "file") is not None


def test_places_that_some_systems_take_for_one(tmp_path: Path) -> None:
    Path(tmp_path / "here").symlink_to(tmp_path)
    assert place_key(tmp_path / "A.tif") == place_key(tmp_path / "here" / "a.TIF")
    assert place_key(tmp_path / "é.tif") == place_key(tmp_path / "e\u0301.tif")
    assert place_key(tmp_path / "a.tif") != place_key(tmp_path / "b.tif")
