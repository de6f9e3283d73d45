"""`prv2 export`, and exports of `prv2 refine` and `prv2 batch`: outputs, streams, refusals."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fake_refiner import FakeRefiner
from PIL import Image
from views import colours, load_3d

from prv2cli.cli import app
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth

SIZE = (48, 64)


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Prv2 = Callable[..., Answer]


@pytest.fixture
def prv2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Prv2:
    """The program in a folder with photo.jpg and its depth.npy, in metres with a focal length."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(colours(*SIZE)).save("photo.jpg", quality=95)
    depth = np.full(SIZE, 2.0, np.float32)
    depth[:, 40:], depth[:10, :10] = 3.0, np.nan
    write_depth(Path("depth.npy"), depth, DepthMetadata(focal_px=60.0, focal_origin="exif"))

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = app._run([str(a) for a in arguments], False)
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def folder() -> Callable[[], list[str]]:
    return lambda: sorted(path.name for path in Path.cwd().iterdir())


# --- prv2 export ------------------------------------------------------------------------------------------


def test_all_at_once_with_a_line_each(prv2: Prv2) -> None:
    files = ("-o", "a.ply", "-o", "a.glb", "-o", "a.exr", "--normals", "n.png", "--picture", "p.png")
    answer = prv2("export", "depth.npy", "photo.jpg", *files)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.splitlines() == [
        f"a.ply: {48 * 64 - 100:,} points",
        "a.glb: 2,972 corners, 5,629 triangles, 94 cut across depth edges",
        "a.exr: B G N.X N.Y N.Z R Z mask",
        "n.png: normals",
        "p.png: picture",
    ]
    assert len(load_3d(Path("a.ply"), "ply").vertices) == 48 * 64 - 100
    assert prv2("export", "depth.npy", "photo.jpg", *files, "-q") == (0, "", "")


def test_json_tells_the_camera_and_what_was_left_out(prv2: Prv2) -> None:
    answer = prv2("export", "depth.npy", "-o", "a.glb", "--max-faces", 500, "--json")
    found = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert (found["depth"], found["photo"], found["unit"]) == ("depth.npy", None, "metre")
    assert (found["width"], found["height"], found["focal_px"], found["focal_origin"]) == (
        64,
        48,
        60.0,
        "exif",
    )
    assert found["principal_px"] == [32, 24]
    (mesh,) = found["outputs"]
    assert (mesh["output"], mesh["kind"], mesh["step"], mesh["texture"]) == ("a.glb", "mesh", 4, None)
    line = prv2("export", "depth.npy", "-o", "a.glb", "--max-faces", 500).err
    assert "(every 4th pixel in each direction; --max-faces 0 takes all)" in line


def test_flags_reach_what_they_are_about(prv2: Prv2) -> None:
    assert prv2("export", "depth.npy", "-o", "a.ply", "--focal-px", 120, "--principal", "0,0", "-q").code == 0
    last = np.asarray(load_3d(Path("a.ply"), "ply").vertices)[-1]
    np.testing.assert_allclose(last, (63.5 * 3 / 120, -47.5 * 3 / 120, -3), rtol=1e-5)
    assert "cut" not in prv2("export", "depth.npy", "-o", "a.glb", "--max-edge", 2).err
    assert prv2("export", "depth.npy", "--normals", "n.exr", "--normals-as", "directx", "-q").code == 0


def test_flags_of_normals_pictures_and_layers_have_their_effect(prv2: Prv2) -> None:
    cv2 = pytest.importorskip("cv2")
    noise = np.random.default_rng(0).normal(0, 0.002, (48, 64))
    slope = (2 + 0.02 * np.arange(48)[:, None] + noise).astype(np.float32)
    write_depth(Path("slope.npy"), slope, DepthMetadata(focal_px=60.0))
    about = DepthMetadata(unit="fraction", kind="confidence")
    write_depth(Path("c.npy"), np.full(slope.shape, 0.5, np.float32), about)

    def made(flag: str, *more: object) -> np.ndarray:
        assert prv2("export", "slope.npy", flag, "x.png", *more, "-q") == (0, "", "")
        return np.asarray(cv2.imread("x.png", cv2.IMREAD_UNCHANGED)).astype(int)

    up, down = made("--normals")[..., 1], made("--normals", "--normals-as", "directx")[..., 1]
    assert np.abs(up + down - 65535).max() <= 1
    assert np.abs(up - down).mean() > 500
    calm = made("--normals", "--normals-radius", 6)[..., 1]
    assert np.diff(calm, axis=1).std() < 0.5 * np.diff(up, axis=1).std()
    white = [(made("--picture", *p) == 65535).mean() for p in ((), ("--percentiles", "0,100"))]
    assert white[0] > 0.01 > white[1]
    found = json.loads(prv2("export", "slope.npy", "-o", "a.ply", "--max-points", 100, "--json").out)
    assert found["outputs"][0]["points"] <= 100
    found = json.loads(prv2("export", "slope.npy", "--confidence", "c.npy", "-o", "a.exr", "--json").out)
    assert "confidence" in found["outputs"][0]["channels"]


def test_depth_comes_from_stdin(prv2: Prv2, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO(Path("depth.npy").read_bytes())
    monkeypatch.setattr("prv2cli.cli.commands.export.binary_stdin", lambda: stream)
    assert prv2("export", "-", "-o", "a.ply", "-q") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "say what is to be written: -o FILE.ply, .glb, .obj or .exr, --normals FILE, --picture FILE"),
        (["-o", "a.stl"], 2, "-o a.stl: name a file that ends in .ply, .glb, .obj, .exr"),
        (["--picture", "p.jpg"], 2, "--picture p.jpg: name a file that ends in .png"),
        (["-o", "a.ply", "-o", "./a.ply"], 2, "-o a.ply: another output goes there; choose another name"),
        (
            ["-o", "a.obj", "-o", "b.glb", "--picture", "depth.png", "--normals", "depth.png"],
            2,
            "another output",
        ),
        (["-o", "nowhere/a.ply"], 1, "its folder does not exist"),
        (["-o", "old.ply", "--no-overwrite"], 1, "old.ply exists; remove it or leave out --no-overwrite"),
        (["-o", "a.ply", "--max-edge", "0.5"], 2, "--max-edge 0.5"),
        (["-o", "a.ply", "--percentiles", "5"], 2, "--percentiles 5: two numbers with a comma between them"),
        (["-o", "a.ply", "--fov", "50", "--focal-px", "9"], 2, "--focal-px and --fov exclude each other"),
        (
            ["-o", "mine.obj"],
            1,
            "mine.mtl, which mine.obj would come with, is there and was not written by prv2",
        ),
    ],
)
def test_refusals_name_the_flag_and_write_nothing(
    prv2: Prv2, folder: Callable[[], list[str]], arguments: list[str], code: int, message: str
) -> None:
    Path("old.ply").write_text("old")
    Path("mine.mtl").write_text("newmtl mine")
    before = folder()
    answer = prv2("export", "depth.npy", "photo.jpg", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1
    assert folder() == before
    assert Path("old.ply").read_text() == "old"


def test_what_is_read_is_never_replaced(prv2: Prv2) -> None:
    Path("photo.png").write_bytes(Path("photo.jpg").read_bytes())
    prv2("export", "depth.npy", "-o", "d.exr", "-q")
    for arguments in (
        ("depth.npy", "photo.png", "--picture", "photo.png"),
        ("d.exr", "-o", "./d.exr"),
        ("depth.npy", "photo.png", "--normals", "PHOTO.PNG")
        if Path("PHOTO.PNG").exists()
        else ("d.exr", "photo.png", "--normals", "d.exr"),
    ):
        answer = prv2("export", *arguments)
        assert answer.code == 2
        assert "itself; choose another name" in answer.err


def test_replacing_its_own_obj_is_nothing_special(prv2: Prv2) -> None:
    for _ in range(2):
        assert prv2("export", "depth.npy", "photo.jpg", "-o", "a.obj", "-q") == (0, "", "")


def test_an_obj_without_a_photograph_comes_with_no_other_files(
    prv2: Prv2, folder: Callable[[], list[str]]
) -> None:
    Path("a.mtl").write_text("newmtl mine")
    before = folder()
    assert prv2("export", "depth.npy", "-o", "a.obj", "--no-overwrite", "-q") == (0, "", "")
    assert folder() == sorted([*before, "a.obj"])
    assert Path("a.mtl").read_text() == "newmtl mine"


# --- refine and batch -------------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRefiner:
    from prv2cli.refine.refiner import Refiner

    refiner = FakeRefiner()
    monkeypatch.setattr(Refiner, "load", lambda *_: refiner)
    return refiner


def test_refine_exports_in_one_go(prv2: Prv2, fake: FakeRefiner) -> None:
    files = ("--export", "a.glb", "--export", "normals:n.png", "--export", "picture:p.png")
    answer = prv2("refine", "photo.jpg", "-o", "d.npy", "--focal-px", 60, *files, "--json")
    assert answer.code == 0, answer.err
    assert [one["output"] for one in json.loads(answer.out)["exports"]] == ["a.glb", "n.png", "p.png"]
    depth = read_depth(Path("d.npy")).values
    mesh = load_3d(Path("a.glb"))
    assert -mesh.vertices[:, 2].max() == pytest.approx(depth.min())
    answer = prv2("refine", "photo.jpg", "-o", "d.npy", "--focal-px", 60, *files)
    assert answer.err.splitlines()[1].startswith("a.glb: ")


def test_refine_keeps_the_depth_that_cannot_be_exported(prv2: Prv2, fake: FakeRefiner) -> None:
    """Whether a network knows metres, or the focal length, is known when it has run."""
    answer = prv2("refine", "photo.jpg", "-o", "d.npy", "--export", "a.glb")
    assert answer.code == 1
    assert "nobody says the focal length of the depth; the depth itself is written" in answer.err
    assert "prv2 export d.npy PHOTO --focal-px N -o a.glb" in answer.err
    assert Path("d.npy").exists()
    assert not Path("a.glb").exists()


@pytest.mark.parametrize(
    ("export", "fix"), [("normals:n.png", "--normals n.png"), ("scene.glb", "-o scene.glb")]
)
def test_the_command_for_later_is_about_what_lacks_something(
    prv2: Prv2, fake: FakeRefiner, export: str, fix: str
) -> None:
    answer = prv2("refine", "photo.jpg", "-o", "d.npy", "--export", "picture:p.png", "--export", export)
    assert answer.code == 1
    assert answer.err.rstrip().endswith(f"prv2 export d.npy PHOTO --focal-px N {fix}")


def test_devices_are_never_replaced(prv2: Prv2, fake: FakeRefiner) -> None:
    for name in ("null.npy", "null.ply"):
        Path(name).symlink_to("/dev/null")
    for outputs in (("-o", "null.npy"), ("-o", "d.npy", "--export", "null.ply")):
        answer = prv2("refine", "photo.jpg", *outputs, "--no-overwrite", "--focal-px", 60)
        assert answer.code == 0, answer.err
    assert Path("null.npy").is_char_device()


def test_refine_refuses_before_any_work_what_is_known(prv2: Prv2, fake: FakeRefiner) -> None:
    np.save("relative.npy", np.ones(SIZE, np.float32))
    given = ("--coarse-depth", "relative.npy")
    for flags, message in (
        ((*given, "--coarse-relative", "--export", "a.glb"), "the map of --coarse-depth is relative"),
        ((*given, "--coarse-scale", "1", "--export", "a.glb"), "nobody says the focal length of the map"),
        (("--export", "photo.obj", "--export", "a.png"), "--export a.png: say what of"),
        (("--export", "d.exr", "-o", "d.exr"), "--export d.exr: another output goes there"),
    ):
        answer = prv2("refine", "photo.jpg", *flags)
        assert answer.code == 2
        assert message in answer.err
    assert fake.calls == 0


def test_a_batch_exports_beside_each_depth_map(prv2: Prv2, fake: FakeRefiner) -> None:
    Path("in/below").mkdir(parents=True)
    for name in ("in/a.png", "in/below/b.png"):
        Image.fromarray(colours(24, 32)).save(name)
    files = ("--export", "{stem}.glb", "--export", "picture:{stem}_p.png")
    run = ("batch", "in", "-r", "-o", "out", "--focal-px", 60, "-q")
    assert prv2(*run, *files) == (0, "", "")
    there = sorted(str(path) for path in Path("out").rglob("*.*") if path.is_file() and path.name[0] != ".")
    assert there == [
        f"out/{name}" for name in ("a.glb", "a.tif", "a_p.png", "below/b.glb", "below/b.tif", "below/b_p.png")
    ]
    assert (prv2(*run, *files).code, fake.calls) == (0, 2)
    Path("out/a.glb").unlink()  # what is missing is made again
    assert (prv2(*run, *files).code, fake.calls) == (0, 3)
    assert Path("out/a.glb").exists()


def test_a_batch_replaces_nothing_of_others_and_no_photograph(prv2: Prv2, fake: FakeRefiner) -> None:
    Path("in").mkdir()
    for name in ("in/a.png", "in/a_p.png"):
        Image.fromarray(colours(24, 32)).save(name)
    Path("out").mkdir()
    Path("out/a.glb").write_text("mine")
    answer = prv2("batch", "in", "-o", "out", "--focal-px", 60, "--export", "{stem}.glb")
    assert answer.code == 1
    assert "a.glb is there and was not written by prv2" in answer.err
    assert Path("out/a.glb").read_text() == "mine"
    before = Path("in/a_p.png").read_bytes()
    answer = prv2("batch", "in", "-o", "in", "--overwrite", "--export", "picture:{stem}_p.png")
    assert answer.code == 1
    assert "in/a.png: in/a_p.png would replace a photograph" in answer.err
    assert Path("in/a_p.png").read_bytes() == before


def test_a_batch_of_relative_maps_is_told_before_any_work(prv2: Prv2, fake: FakeRefiner) -> None:
    Path("in").mkdir()
    Path("maps").mkdir()
    Image.fromarray(colours(24, 32)).save("in/a.png")
    np.save("maps/a.npy", np.ones((24, 32), np.float32))
    answer = prv2(
        "batch", "in", "-o", "out", "--coarse-depth", "maps", "--coarse-relative", "--export", "{stem}.glb"
    )
    assert (answer.code, fake.calls) == (1, 0)
    assert "the map of --coarse-depth is relative" in answer.err


def test_a_batch_tells_templates_that_cannot_work_at_once(prv2: Prv2, fake: FakeRefiner) -> None:
    answer = prv2("batch", ".", "-o", "out", "--export", "scene.glb")
    assert answer.code == 2
    assert "use {stem} in it" in answer.err
