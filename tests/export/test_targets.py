"""Names that say what is made, what comes with it, and whose files may be replaced."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from views import colours, view_of

from prv2cli.errors import MissingExtraError, OutputError, UsageError
from prv2cli.export.targets import (
    Target,
    check_companions,
    check_extras,
    is_ours,
    parse_target,
)
from prv2cli.export.write import export


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("a.ply", "points", "a.ply"),
        ("b/a.GLB", "mesh", "b/a.GLB"),
        ("a.obj", "mesh", "a.obj"),
        ("a.exr", "layers", "a.exr"),
        ("normals:a.exr", "normals", "a.exr"),
        ("normals:a.png", "normals", "a.png"),
        ("picture:b:c.png", "picture", "b:c.png"),
        ("odd:name.ply", "points", "odd:name.ply"),
    ],
)
def test_names_say_what_is_made(text: str, kind: str, path: str) -> None:
    target = parse_target(text)
    assert (target.kind, str(target.path)) == (kind, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png", r"--export a\.png: say what of: picture:a\.png or normals:a\.png"),
        ("a.stl", r"--export a\.stl: name a file that ends in \.ply, \.glb, \.obj, \.exr"),
        ("picture:a.exr", r"--export picture: a\.exr: name a file that ends in \.png"),
        ("normals:a.jpg", r"--export normals: a\.jpg: .* \.png or \.exr"),
    ],
)
def test_names_that_do_not_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_target(text)


def test_own_files_are_known_and_those_of_others_kept(tmp_path: Path) -> None:
    targets = [parse_target(str(tmp_path / name)) for name in ("a.ply", "a.glb", "a.obj", "a.exr")]
    export(view_of(np.full((4, 5), 2.0), colours(4, 5)), targets)
    assert {path.name for path in tmp_path.iterdir() if not is_ours(path)} == set()
    (tmp_path / "b.glb").write_bytes(b"glTF of another program")
    assert not is_ours(tmp_path / "b.glb")


@pytest.mark.parametrize("name", ["b.mtl", "b_texture.jpg"])
def test_what_comes_with_an_obj_replaces_nothing_of_others(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("newmtl mine")
    with pytest.raises(OutputError, match=rf"{name}, which .*b\.obj would come with, is there"):
        check_companions([Target("mesh", tmp_path / "b.obj")])


@pytest.mark.parametrize(
    ("module", "name"), [("plyfile", "a.ply"), ("trimesh", "a.obj"), ("OpenEXR", "a.exr")]
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = "exr" if module == "OpenEXR" else "mesh"
    with pytest.raises(MissingExtraError, match=rf"pip install 'prv2cli\[{extra}\]'"):
        check_extras([parse_target(name)])
    check_extras([parse_target("picture:a.png")])
