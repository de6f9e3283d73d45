"""The command line: what it writes, what it refuses and how, and what its streams hold."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import phone_photos as phone
import pytest
from image_files import plain
from PIL import Image

from prv2cli import __version__
from prv2cli.cli import app
from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError
from prv2cli.hub.registry import DEFAULT_COARSE, DEFAULT_REFINER
from prv2cli.hub.resolve import resolve
from prv2cli.refine.request import Models

ROOT = Path(__file__).parents[3]
HEIGHT, WIDTH = 90, 120
EXACT = ("--device", "cpu", "--precision", "fp32")
JSON_KEYS = {
    "input",
    "output",
    "preview",
    "width",
    "height",
    "unit",
    "kind",
    "min",
    "median",
    "max",
    "masked",
    "filled",
    "focal_origin",
    "fov_degrees",
    "clipped",
    "rounded",
    "seam",
    "tiles",
    "tiling",
    "tta",
    "confidence",
    "model",
    "model_id",
    "coarse",
    "device",
    "precision",
    "focal_px",
    "notes",
    "seconds",
}
PARTS = {"decode", "load", "coarse", "reduced", "tiles", "fuse", "encode", "total"}


class Answer(NamedTuple):
    """Exit code, stdout, stderr."""

    code: int
    out: bytes
    err: str


Prv2 = Callable[..., Answer]


def _picture() -> np.ndarray:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    grey = 100 + 50 * np.sin(x / 9) * np.cos(y / 7) + 40 * (x // 30 % 2) + rng.normal(0, 5, (HEIGHT, WIDTH))
    return np.clip(grey[..., None] * np.array([1, 0.9, 0.7]), 0, 255).astype(np.uint8)


def _ramp() -> np.ndarray:
    """(30, 40) depths from 1 to 4."""
    return np.linspace(1, 4, 1200, dtype=np.float32).reshape(30, 40)


def _environment() -> dict[str, str]:
    """For a program started in another folder: this checkout, whether it is installed or not."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, env=_environment(), timeout=120, **options)


@pytest.fixture
def prv2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: Any) -> Prv2:
    """The program in an empty folder with a photograph, photo.jpg."""
    monkeypatch.chdir(tmp_path)
    plain(_picture()).save("photo.jpg", quality=95)

    def call(*arguments: object, debug: bool = False) -> Answer:
        capsysbinary.readouterr()
        code = app._run([str(a) for a in arguments], debug)
        out, err = capsysbinary.readouterr()
        return Answer(code, out, err.decode())

    return call


_LOADED: dict[tuple[str | None, ...], Any] = {}


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair of models is loaded once for all the tests that ask for this; auto is what is embedded.

    Its metres are believed: the picture is no photograph, and it would call its depth relative.
    """
    from prv2cli import Refiner

    load = Refiner.load

    def load_once(models: Models, *_: object) -> Any:
        name = DEFAULT_REFINER if models.model == "auto" else str(models.model)
        network = DEFAULT_COARSE if models.coarse == "auto" else models.coarse
        known = (name, None if network is None else str(network))
        if known not in _LOADED:
            _LOADED[known] = load(replace(models, model=name, coarse=network, trusting=True))
        return _LOADED[known]

    monkeypatch.setattr(Refiner, "load", load_once)


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model may be loaded; what stands in its header may be read."""
    from prv2cli.checkpoints import model_file
    from prv2cli.refine import load

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(model_file, "check_values", refuse)
    monkeypatch.setattr(load, "load_coarse", refuse)


# --- start-up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["refine", "--help"], ["export", "-h"], ["train", "-h"]]
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from prv2cli.cli.app import main
try:
    main({arguments})
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {{"torch", "timm", "torchvision", "numpy", "PIL", "tifffile", "safetensors", "yaml"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = _python("-c", code)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    assert (__version__ if arguments == ["--version"] else "Usage").encode() in done.stdout


def test_typer_errors_are_known_for_what_they_are() -> None:
    assert app._WrongCall.__name__ == "ClickException"


# --- what refine writes -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded_once")
def test_refine_writes_a_depth_map_that_explains_itself(prv2: Prv2) -> None:
    answer = prv2("refine", "photo.jpg", *EXACT)
    assert (answer.code, answer.out) == (0, b"")
    (sentence,) = answer.err.splitlines()
    assert sentence.startswith(f"photo_depth.tif: {WIDTH}x{HEIGHT}, ")

    depth = read_depth(Path("photo_depth.tif"))
    assert depth.values.shape == (HEIGHT, WIDTH)
    assert np.isfinite(depth.values).all()
    about = depth.metadata
    assert (about.version, about.unit, about.kind, about.scale) == (__version__, "metre", "depth", 256)
    assert about.model == "refiner-s"
    assert about.model_id == hashlib.sha256(resolve("refiner-s").path.read_bytes()).hexdigest()
    assert about.source_sha256 == hashlib.sha256(Path("photo.jpg").read_bytes()).hexdigest()
    assert (about.precision, about.coarse) == ("float32", "lite")
    assert about.tiling
    assert about.tiling.startswith("grid 1x1")
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["photo.jpg", "photo_depth.tif"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What every way to write the photograph's depth must agree with: metres in float32."""
    path = tmp_path_factory.mktemp("reference") / "photo.jpg"
    plain(_picture()).save(path, quality=95)
    from prv2cli import Refiner

    refiner = Refiner.from_pretrained("refiner-s", coarse="lite", device="cpu", precision="fp32")
    return refiner.refine(np.asarray(Image.open(path))).depth


WAYS: dict[str, tuple[tuple[str, ...], str, str, float]] = {  # arguments, unit, dtype, half a step
    "a.png": (("--depth-scale", "1000"), "metre", "uint16", 0.5 / 1000),
    "b.tif": (("--dtype", "float32"), "metre", "float32", 0),
    "c.npy": (("--inverse",), "1/metre", "float32", 1e-6),
    "d.npz": ((), "metre", "float32", 0),
    "e.bin": (("--format", "PNG", "--inverse", "--depth-scale", "5000"), "1/metre", "uint16", 0.5 / 5000),
}


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("name", WAYS)
def test_every_format_holds_the_same_depth(prv2: Prv2, reference: np.ndarray, name: str) -> None:
    arguments, unit, dtype, tolerance = WAYS[name]
    answer = prv2("refine", "photo.jpg", "-o", name, "-q", *arguments, *EXACT)
    assert answer == (0, b"", "")  # -q: nothing at all
    depth, found = read_depth(Path(name)), depth_info(Path(name))
    assert (found["unit"], found["dtype"]) == (unit, dtype)
    expected = 1 / reference if unit.startswith("1/") else reference
    np.testing.assert_allclose(depth.values, expected, rtol=1e-5, atol=tolerance)


@pytest.mark.usefixtures("loaded_once")
def test_json_is_one_object_on_stdout_and_nothing_else(prv2: Prv2, reference: np.ndarray) -> None:
    answer = prv2("refine", "photo.jpg", "-o", "a.npy", "--preview", "p.webp", "--json", "-q", *EXACT)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.count(b"\n") == 1
    found = json.loads(answer.out)
    assert set(found) == JSON_KEYS
    assert set(found["seconds"]) == PARTS
    assert all(seconds >= 0 for seconds in found["seconds"].values())
    assert (found["output"], found["preview"], found["unit"]) == ("a.npy", "p.webp", "metre")
    assert (found["width"], found["height"], found["tiles"]) == (WIDTH, HEIGHT, 1)
    assert (found["clipped"], found["rounded"], found["seam"], found["notes"]) == (0, 0, 0, [])
    assert found["min"] == pytest.approx(float(reference.min()), rel=1e-4)
    assert found["max"] == pytest.approx(float(reference.max()), rel=1e-4)
    with Image.open("p.webp") as preview:
        assert (preview.format, preview.size) == ("WEBP", (WIDTH, HEIGHT))


@pytest.mark.usefixtures("loaded_once")
def test_a_comparison_is_written_beside_the_depth_and_never_refined(prv2: Prv2) -> None:
    answer = prv2("refine", "photo.jpg", "-o", "a.npy", "--compare", "c.png", "--json", "-q", *EXACT)
    found = json.loads(answer.out)
    assert set(found) == {*JSON_KEYS, "compare"}
    assert (answer.code, found["compare"], found["preview"]) == (0, "c.png", None)
    with Image.open("c.png") as picture:
        assert picture.size == (3 * WIDTH + 2 * 12, HEIGHT)
        photo = np.asarray(picture.crop((0, 0, WIDTH, HEIGHT))).astype(int)
    with Image.open("photo.jpg") as photograph:
        assert np.abs(photo - np.asarray(photograph)).max() <= 1
    assert prv2("refine", "c.png", "-o", "b.npy", *EXACT)[0] == 1


@pytest.mark.usefixtures("loaded_once")
def test_a_rotated_photograph_comes_out_upright(prv2: Prv2) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain(_picture()).save("turned.jpg", exif=exif)
    answer = prv2("refine", "turned.jpg", "--json", *EXACT)
    found = json.loads(answer.out)
    assert (answer.code, found["width"], found["height"]) == (0, HEIGHT, WIDTH)
    assert read_depth(Path("turned_depth.tif")).values.shape == (WIDTH, HEIGHT)


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize(
    ("arguments", "tiling"),
    [
        (("--tile", "64x128", "--overlap", "0.25", "--batch-size", "2"), "grid 2x1 of 64x128, overlap 0.25"),
        (("--mode", "r1", "--seed", "3"), "paper r1: "),
    ],
)
def test_the_tiling_asked_for_is_the_tiling_used(
    prv2: Prv2, reference: np.ndarray, arguments: tuple[str, ...], tiling: str
) -> None:
    assert prv2("refine", "photo.jpg", "-o", "a.npy", "-q", *arguments, *EXACT).code == 0
    depth = read_depth(Path("a.npy"))
    assert (depth.metadata.tiling or "").startswith(tiling)
    assert np.abs(depth.values / reference - 1).mean() < 0.1  # the same scene


@pytest.mark.usefixtures("loaded_once")
def test_a_depth_map_by_prv2_is_no_photograph(prv2: Prv2) -> None:
    assert prv2("refine", "photo.jpg", "-o", "depth.png", "--preview", "seen.png")[0] == 0
    for name in ("depth.png", "seen.png"):
        code, _, err = prv2("refine", name, "-o", "again.png")
        assert code == 1
        assert f"{name}: a depth map, or a picture of one, that prv2 wrote" in err
        assert "--coarse-depth" in err


@pytest.mark.usefixtures("loaded_once")
def test_existing_outputs_are_replaced(prv2: Prv2) -> None:
    Path("a.npy").write_text("old")
    assert prv2("refine", "photo.jpg", "-o", "a.npy", *EXACT).code == 0
    assert read_depth(Path("a.npy")).values.shape == (HEIGHT, WIDTH)


def test_a_folder_called_like_a_model_is_not_protected(prv2: Prv2) -> None:
    Path("lite").mkdir()
    Path("lite/a.npy").write_text("old")
    assert prv2("refine", "photo.jpg", "--coarse", "lite", "-o", "lite/a.npy", "--dry-run").code == 0


@pytest.mark.usefixtures("loaded_once")
def test_a_network_asked_for_by_name_is_not_warned_of(prv2: Prv2) -> None:
    answer = prv2("refine", "photo.jpg", "-m", "refiner-s", "--coarse", "lite", *EXACT)
    assert answer.code == 0
    assert "warning" not in answer.err


@pytest.mark.usefixtures("loaded_once")
def test_a_local_checkpoint_works_like_a_name(prv2: Prv2) -> None:
    shutil.copy(resolve("refiner-s").path, "mine.safetensors")
    np.save("coarse.npy", _ramp())
    given = ("--coarse-depth", "coarse.npy", "--coarse-scale", "1")
    assert prv2("refine", "photo.jpg", "-m", "mine.safetensors", *given, *EXACT).code == 0
    about = read_depth(Path("photo_depth.tif")).metadata
    assert about.model_id == hashlib.sha256(Path("mine.safetensors").read_bytes()).hexdigest()


# --- depth maps of one's own ------------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded_once")
def test_a_given_map_keeps_its_unit(prv2: Prv2) -> None:
    """Metres in a .npy, millimetres in a PNG, and a file of ours are one map; each output is in metres."""
    np.save("m.npy", _ramp())
    plain(np.rint(_ramp() * 1000).astype(np.uint16)).save("mm.png")
    write_depth(Path("ours.tif"), _ramp(), DepthMetadata(), dtype="float32")
    found = []
    for name, scale in (("m.npy", 1), ("mm.png", 1000), ("ours.tif", None)):
        flags = () if scale is None else ("--coarse-scale", scale)
        answer = prv2("refine", "photo.jpg", "-o", "a.npy", "--coarse-depth", name, *flags, *EXACT)
        assert answer.code == 0
        assert "warning" not in answer.err
        depth = read_depth(Path("a.npy"))
        assert (depth.metadata.unit, depth.metadata.coarse) == ("metre", f"file {name}")
        found.append(depth.values)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-6)
    rounded = np.abs(found[1] / found[0] - 1)  # beside an edge a millimetre may decide for the other surface
    assert np.percentile(rounded, 99) < 0.005
    assert rounded.max() < 0.2
    assert 0.5 < np.median(found[0]) / np.median(_ramp()) < 2


@pytest.mark.usefixtures("loaded_once")
def test_a_map_without_a_unit_never_becomes_metres(prv2: Prv2) -> None:
    np.save("relative.npy", _ramp())
    given = ("--coarse-depth", "relative.npy", "--coarse-relative")
    answer = prv2("refine", "photo.jpg", "--json", *given, *EXACT)
    assert json.loads(answer.out)["unit"] == "relative"
    found = depth_info(Path("photo_depth.tif"))
    assert (found["unit"], found["dtype"]) == ("relative", "float32")  # integers need a unit
    assert prv2("refine", "photo.jpg", "-o", "i.npy", "--inverse", *given, *EXACT).code == 0
    assert depth_info(Path("i.npy"))["unit"] == "1/relative"
    assert " m," not in prv2("refine", "photo.jpg", "-o", "i.npy", *given, *EXACT).err


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("stdin", [False, True])
def test_the_depth_in_the_photograph_itself(prv2: Prv2, monkeypatch: pytest.MonkeyPatch, stdin: bool) -> None:
    """In metres, on its side as the photograph is, and the same as the map beside it."""
    linear: dict[str, Any] = {"Format": "RangeLinear", "Near": "1", "Far": "4", "Units": "m"}
    data = phone.gdepth(phone.encoded(phone.levels(16)), orientation=6, extended=True, **linear)
    Path("p.jpg").write_bytes(data)
    np.save("map.npy", np.rot90(phone.levels(16) / 65535 * 3 + 1, -1).astype(np.float32))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    source = "-" if stdin else "p.jpg"
    answer = prv2("refine", source, "-o", "a.npy", "--coarse-depth", "embedded", "--json", *EXACT)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["width"], found["height"], found["unit"]) == (phone.HEIGHT, phone.WIDTH, "metre")
    assert found["coarse"] == "GDepth, from the photograph"
    assert "refining the depth in it (GDepth, 24x32, metres)" in answer.err
    prv2("refine", "p.jpg", "-o", "b.npy", "--coarse-depth", "map.npy", "--coarse-scale", 1, *EXACT)
    depth = read_depth(Path("a.npy"))
    assert depth.metadata.coarse_sha256 is None
    np.testing.assert_allclose(depth.values, read_depth(Path("b.npy")).values, rtol=1e-4)
    beside = read_depth(Path("b.npy")).metadata
    assert beside.coarse_sha256 == hashlib.sha256(Path("map.npy").read_bytes()).hexdigest()
    no_unit = ("--coarse-relative", "-o", "c.tif", "--json")
    found = json.loads(prv2("refine", "p.jpg", "--coarse-depth", "embedded", *no_unit, *EXACT).out)
    assert found["unit"] == "relative"


@pytest.mark.usefixtures("loaded_once")
def test_an_inverse_map_is_refined_as_what_it_is(prv2: Prv2) -> None:
    np.save("depth.npy", _ramp())
    np.save("inverse.npy", 50 / _ramp())
    write_depth(Path("ours.npz"), _ramp(), DepthMetadata(), inverse=True)  # says so itself

    def refined(*arguments: object) -> Any:
        answer = prv2("refine", "photo.jpg", "-o", "a.npy", "--coarse-depth", *arguments, *EXACT)
        assert answer.code == 0
        return read_depth(Path("a.npy"))

    plainly = refined("depth.npy", "--coarse-scale", 1)
    inverse = ("inverse.npy", "--coarse-kind", "inverse", "--coarse-scale", 50)
    for found in (refined(*inverse), refined("ours.npz")):
        assert (found.metadata.unit, found.metadata.kind) == ("metre", "depth")
        np.testing.assert_allclose(found.values, plainly.values, rtol=1e-3)
    same_unit = refined(*inverse, "--inverse")
    assert (same_unit.metadata.unit, same_unit.metadata.kind) == ("1/metre", "inverse")
    np.testing.assert_allclose(same_unit.values, 1 / plainly.values, rtol=1e-3)


@pytest.mark.usefixtures("loaded_once")
def test_what_sixteen_bits_cannot_hold_is_said(prv2: Prv2) -> None:
    np.save("wide.npy", np.geomspace(0.01, 2000, 1200, dtype=np.float32).reshape(30, 40))
    given = ("--coarse-depth", "wide.npy", "--coarse-scale", "1")
    answer = prv2("refine", "photo.jpg", "--json", *given, *EXACT)
    found, warnings = json.loads(answer.out), answer.err.splitlines()
    assert found["clipped"] > 0
    assert found["rounded"] > 0
    assert len(warnings) == 2
    assert f"{found['clipped']} pixels" in warnings[0]
    assert "smaller --depth-scale" in warnings[0]
    assert f"{found['rounded']} pixels" in warnings[1]
    assert "larger --depth-scale" in warnings[1]
    assert prv2("refine", "photo.jpg", "-o", "a.npy", "-q", *given, *EXACT) == (0, b"", "")


# --- what is too large for memory -------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy"])
def test_in_bands_the_result_is_the_same(prv2: Prv2, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert prv2("refine", "photo.jpg", "-o", name, "-q", *EXACT) == (0, b"", "")
    whole = read_depth(Path(name))
    monkeypatch.setattr("prv2cli.refine.estimate.choose_way", lambda header, memory: "bands")
    answer = prv2("refine", "photo.jpg", "-o", f"bands_{name}", "--json", "-q", *EXACT)
    assert (answer.code, answer.err) == (0, "")
    assert set(json.loads(answer.out)) == JSON_KEYS
    bands = read_depth(Path(f"bands_{name}"))
    np.testing.assert_array_equal(bands.values, whole.values)
    assert bands.metadata.to_json() == whole.metadata.to_json()
    assert sorted(p.name for p in Path.cwd().iterdir()) == sorted([name, f"bands_{name}", "photo.jpg"])


@pytest.mark.usefixtures("loaded_once")
def test_in_bands_a_comparison_is_the_same(prv2: Prv2, monkeypatch: pytest.MonkeyPatch) -> None:
    inverse = 1 / np.linspace(1, 8, 15 * 20, dtype=np.float32).reshape(15, 20)
    inverse[:4, :4] = np.nan
    np.save("map.npy", inverse)
    given = ("--coarse-depth", "map.npy", "--coarse-relative", "--coarse-kind", "inverse", "--keep-holes")
    call = ("refine", "photo.jpg", *given, "-q", *EXACT)
    assert prv2(*call, "-o", "a.npy", "--compare", "a.png") == (0, b"", "")
    monkeypatch.setattr("prv2cli.refine.estimate.choose_way", lambda header, memory: "bands")
    assert prv2(*call, "-o", "b.npy", "--compare", "b.png") == (0, b"", "")
    with Image.open("a.png") as whole, Image.open("b.png") as bands:
        assert np.array_equal(np.asarray(whole), np.asarray(bands))
        coarse, refined = (np.asarray(whole)[:, k * (WIDTH + 12) :][:, :WIDTH] for k in (1, 2))
    for panel in (coarse, refined):
        assert (panel[: HEIGHT * 4 // 15, : WIDTH * 4 // 20] == 128).all()
        brightness = panel.sum(axis=2)
        assert brightness[HEIGHT // 3].mean() > brightness[-1].mean()  # near above, far below


@pytest.mark.usefixtures("never_loaded")
def test_a_photograph_that_cannot_fit_is_refused_with_the_figures(
    prv2: Prv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prv2cli.refine.estimate.available_host_memory", lambda: 100_000_000)
    before = _folder()
    _check_refusal(
        prv2("refine", "photo.jpg", *EXACT), before, 1, "photo.jpg ... GB of memory ... GB are free"
    )


@pytest.mark.usefixtures("loaded_once")
def test_a_dry_run_tells_what_it_would_take_and_writes_nothing(prv2: Prv2) -> None:
    answer = prv2("refine", "photo.jpg", "--dry-run", "--json", *EXACT)
    found = json.loads(answer.out)
    assert (answer.code, answer.err, found["tiles"], found["way"]) == (0, "", 1, "memory")
    assert (found["width"], found["height"]) == (WIDTH, HEIGHT)
    assert found["memory_bytes"] > 100_000_000
    assert found["seconds"] > 0
    text = prv2("refine", "photo.jpg", "--dry-run", *EXACT).out.decode()
    assert text.startswith(f"photo.jpg: {WIDTH}x{HEIGHT}, 1 tiles (grid 1x1")
    assert "GB of memory, about" in text
    assert [p.name for p in Path.cwd().iterdir()] == ["photo.jpg"]


# --- pipes ------------------------------------------------------------------------------------------------


def test_a_pipe_carries_the_depth_map_and_nothing_else(tmp_path: Path) -> None:
    photo = io.BytesIO()
    plain(_picture()).save(photo, "JPEG")
    command = ("-m", "prv2cli", "refine", "-", "-o", "-", "--format", "png", *EXACT)
    done = _python(*command, input=photo.getvalue(), cwd=tmp_path)
    errors = done.stderr.decode()
    assert done.returncode == 0, errors
    assert errors.startswith("warning: moge-2-vits-normal is not at hand")
    doubt = "lite knows near from far in this photograph, not metres: the depth is relative"
    assert errors.splitlines()[1:] == [doubt]
    assert done.stdout.startswith(b"\x89PNG")
    assert done.stdout.endswith(b"IEND\xaeB`\x82")
    with Image.open(io.BytesIO(done.stdout)) as picture:
        assert (picture.mode, picture.size) == ("I;16", (WIDTH, HEIGHT))
    about = read_depth(io.BytesIO(done.stdout)).metadata
    assert (about.unit, about.model) == ("relative", "refiner-s")
    assert about.source_sha256 == hashlib.sha256(photo.getvalue()).hexdigest()
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_is_no_bug(tmp_path: Path) -> None:
    write_depth(tmp_path / "a.npy", _ramp(), DepthMetadata())
    command = [sys.executable, "-m", "prv2cli", "convert", "a.npy", "-"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout
        assert program.stderr
        program.stdout.close()
        errors = program.stderr.read()
    assert (program.returncode, errors) == (1, b"")


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("name", ["photo_depth.tif", "other.tif"])
def test_what_prv2_wrote_and_what_is_named_is_replaced(prv2: Prv2, name: str) -> None:
    """A default name may be that of a file by prv2, or of the beginning of one."""
    arguments = ["photo.jpg", *EXACT, "-q"] + (["-o", name] if name == "other.tif" else [])
    Path(name).write_bytes(b"someone else's" if name == "other.tif" else b"")
    for _ in range(2):
        assert prv2("refine", *arguments) == (0, b"", "")
        assert read_depth(Path(name)).values.shape == (HEIGHT, WIDTH)


@pytest.mark.usefixtures("loaded_once")
def test_a_photograph_from_a_pipe(prv2: Prv2) -> None:
    os.mkfifo("pipe")
    for flags in (["-o", "a.tif"], ["--dry-run"]):
        writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("photo.jpg").read_bytes()))
        writer.start()
        answer = prv2("refine", "pipe", *flags, *EXACT, "--json")
        writer.join()
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)["input"] == "pipe"
    assert read_depth(Path("a.tif")).values.shape == (HEIGHT, WIDTH)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.fixture
def odd_files(prv2: Prv2) -> Prv2:
    """Beside photo.jpg: files and folders that are not what a command wants."""
    jpeg = Path("photo.jpg").read_bytes()
    Path("cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    Path("empty.jpg").touch()
    Path("text.jpg").write_text("Dear friend,\nthis is no picture.\n")
    Path("folder.tif").mkdir()
    Path("old.tif").write_text("old")
    np.save("coarse.npy", _ramp())
    Path("hard.npy").hardlink_to("coarse.npy")
    Path("link.png").symlink_to("coarse.npy")
    np.save("model.npy", _ramp())
    Path("old.jpg").write_bytes(jpeg)
    Path("old_depth.tif").write_bytes(b"a map of someone else's")
    np.save("upright.npy", _ramp().T)
    plain(np.rint(_ramp() * 1000).astype(np.uint16)).save("others.png")
    return prv2


def _folder() -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in Path.cwd().rglob("*")}


def _check_refusal(answer: Answer, before: dict[str, float], code: int, pattern: str) -> None:
    assert answer.code == code, answer.err
    assert answer.out == b""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1, answer.err
    for part in pattern.split(" ... "):
        assert part in answer.err
    assert _folder() == before


PHOTO_FIRST: dict[
    str, tuple[int, str]
] = {  # refused whatever the photograph: arguments -> exit code, message
    "": (2, "IMAGE ... prv2 refine --help"),
    "photo.jpg cut.jpg": (2, "IMAGE ... prv2 batch photo.jpg cut.jpg -o"),
    "photo.jpg cut.jpg a.jpg b.jpg -o x.tif": (2, "not 4 ... prv2 batch photo.jpg cut.jpg a.jpg ..."),
    "photo.jpg --coarse-depth coarse.npy -o coarse.npy": (2, "-o coarse.npy ... the map of --coarse-depth"),
    "photo.jpg --coarse-depth coarse.npy --confidence hard.npy": (2, "--confidence hard.npy ... the map of"),
    "photo.jpg --coarse-depth coarse.npy --preview link.png": (2, "--preview link.png ... the map of"),
    "photo.jpg --model model.npy -o model.npy": (2, "-o model.npy ... the model"),
    "photo.jpg --coarse model.npy --confidence model.npy": (
        2,
        "--confidence model.npy ... the coarse network",
    ),
    "photo.jpg -o a.png --preview A.PNG": (2, "--preview A.PNG ... the depth map itself"),
    "old.jpg": (1, "old_depth.tif ... not written by prv2 ... -o NAME ... --overwrite"),
    "old.jpg --coarse-depth old_depth.tif --overwrite": (2, "-o old_depth.tif ... the map of --coarse-depth"),
    "photo.jpg --nope": (2, "--nope"),
    "photo.jpg --dtype int8": (2, "--dtype ... uint16"),
    "photo.jpg --batch-size -1": (2, "--batch-size"),
    "photo.jpg --seed -1": (2, "--seed"),
    "photo.jpg --overlap 0.6": (2, "--overlap"),
    "photo.jpg --overlap nan": (2, "--overlap"),
    "photo.jpg --tile abc": (2, "--tile abc ... 512x768"),
    "photo.jpg --mode m7": (2, "--mode m7 ... m1, m2 or rN"),
    "photo.jpg --device foo": (2, "--device foo ... cuda:N"),
    "photo.jpg --device meta": (2, "--device meta ... cuda:N"),
    "photo.jpg --precision x": (2, "--precision x ... bf16"),
    "photo.jpg --model nope": (
        2,
        "'nope' ... lite, moge-2-vitb-normal, moge-2-vitl, moge-2-vitl-normal, moge-2-vits-normal, refiner-s",
    ),
    "photo.jpg --coarse nope": (
        2,
        "'nope' ... lite, moge-2-vitb-normal, moge-2-vitl, moge-2-vitl-normal, moge-2-vits-normal, refiner-s",
    ),
    "photo.jpg -o nowhere/a.tif": (1, "nowhere ... mkdir"),
    "photo.jpg -o folder.tif": (1, "folder.tif is a folder"),
    "photo.jpg -o old.tif/a.tif": (1, "old.tif is a file"),
    "photo.jpg -o a.gif": (2, "'.gif' ... .tif"),
    "photo.jpg -o a": (2, "--format"),
    "photo.jpg -o a.tif --format gif": (2, "--format gif ... png"),
    "photo.jpg -o photo.jpg": (2, "-o photo.jpg ... the photograph itself"),
    "photo.jpg -o photo.jpg --format tif": (2, "-o photo.jpg ... the photograph itself"),
    "photo.jpg -o old.tif --no-overwrite": (1, "old.tif ... --no-overwrite"),
    "photo.jpg -o a.png --dtype float32": (2, "--dtype float32 ... .tif"),
    "photo.jpg --depth-scale 0": (2, "--depth-scale"),
    "photo.jpg --preview a.gif": (2, "--preview a.gif ... .png"),
    "photo.jpg --preview nowhere/a.png": (1, "nowhere ... mkdir"),
    "photo.jpg --preview photo.jpg": (2, "--preview photo.jpg ... the photograph itself"),
    "photo.jpg -o a.png --preview ./a.png": (2, "--preview a.png ... the depth map itself"),
    "photo.jpg --compare a.tif": (2, "--compare a.tif ... .png"),
    "photo.jpg --compare nowhere/a.png": (1, "nowhere ... mkdir"),
    "photo.jpg --compare photo.jpg": (2, "--compare photo.jpg ... the photograph itself"),
    "photo.jpg --coarse-depth coarse.npy --compare link.png": (2, "--compare link.png ... the map of"),
    "photo.jpg --preview a.png --compare ./a.png": (2, "--compare a.png ... the file of --preview"),
    "photo.jpg -o - --json": (2, "--json ... -o -"),
    "photo.jpg --coarse lite --coarse-depth coarse.npy": (2, "--coarse and --coarse-depth"),
    "photo.jpg --coarse-scale 1": (2, "--coarse-scale ... --coarse-depth"),
    "photo.jpg --coarse-relative": (2, "--coarse-relative ... --coarse-depth"),
    "photo.jpg --coarse-kind inverse": (2, "--coarse-kind ... --coarse-depth"),
    "photo.jpg --keep-holes": (2, "--keep-holes ... --coarse-depth"),
    "photo.jpg --coarse-depth coarse.npy --coarse hf:a/b --keep-holes": (
        2,
        "--keep-holes with --coarse hf:a/b",
    ),
    "photo.jpg --coarse-depth embedded": (1, "photo.jpg: holds no depth ... --coarse-depth FILE"),
    "nowhere.jpg --coarse-depth embedded": (1, "nowhere.jpg ... no such file"),
    "folder.tif --coarse-depth embedded": (2, "folder.tif ... folder"),
    "text.jpg --coarse-depth embedded": (1, "text.jpg: holds no depth"),
    "photo.jpg --coarse-depth embedded --coarse-scale 0": (2, "--coarse-scale 0"),
    "photo.jpg --coarse-depth embedded --coarse lite": (2, "--coarse and --coarse-depth"),
    "photo.jpg --coarse-depth coarse.npy --coarse-scale 1 --coarse-relative": (2, "--coarse-scale and"),
    "photo.jpg --coarse-depth coarse.npy --coarse-scale 0": (2, "--coarse-scale 0"),
    "photo.jpg --coarse-depth photo.jpg --coarse-kind depth --coarse-scale -5": (2, "--coarse-scale -5"),
    "photo.jpg --coarse-depth coarse.npy": (2, "coarse.npy ... --coarse-scale 1 ... --coarse-relative"),
    "photo.jpg --coarse-depth others.png": (2, "others.png ... --coarse-scale 1000 ... --coarse-relative"),
    "photo.jpg --coarse-depth nowhere.npy --coarse-scale 1": (1, "nowhere.npy ... no such file"),
    "photo.jpg --coarse-depth text.jpg --coarse-scale 1": (1, "text.jpg"),
}
AFTER_THE_PHOTO: dict[str, tuple[int, str]] = {
    "nowhere.jpg": (1, "nowhere.jpg ... no such file"),
    "folder.tif": (2, "folder.tif ... folder"),
    "empty.jpg": (1, "empty.jpg ... empty"),
    "text.jpg": (1, "text.jpg ... text"),
    "cut.jpg": (1, "cut.jpg ... cut short"),
    "photo.jpg --max-pixels 10799": (1, "photo.jpg ... --max-pixels 10800"),
    "photo.jpg --tile 500": (2, "--tile 500 ... use 512"),
    "photo.jpg --tile -64": (2, "--tile -64"),
    "photo.jpg --device cuda:999": (1, "--device cuda:999"),
    "photo.jpg --device cpu --precision fp16": (2, "--precision fp16"),
    "photo.jpg --model text.jpg": (1, "text.jpg ... safetensors"),
    "photo.jpg --coarse-depth upright.npy --coarse-scale 1": (1, "aspect"),
}


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("line", PHOTO_FIRST)
def test_wrong_calls_are_refused_before_the_photograph_is_read(
    odd_files: Prv2, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the photograph was read")

    monkeypatch.setattr("prv2cli.photo.read.read_photo", refuse)
    before = _folder()
    _check_refusal(odd_files("refine", *line.split()), before, *PHOTO_FIRST[line])


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("line", AFTER_THE_PHOTO)
def test_what_cannot_be_refined_is_refused_before_the_model_is_loaded(odd_files: Prv2, line: str) -> None:
    before = _folder()
    _check_refusal(odd_files("refine", *line.split()), before, *AFTER_THE_PHOTO[line])


@pytest.mark.usefixtures("never_loaded")
def test_cuda_is_refused_where_there_is_none(odd_files: Prv2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = _folder()
    answer = odd_files("refine", "photo.jpg", "--device", "cuda")
    _check_refusal(answer, before, 1, "--device cuda ... --device auto or cpu")


@pytest.mark.parametrize("flags", [("--model", "lite"), ("--coarse", "refiner-s")])
def test_networks_in_the_wrong_place_are_refused(odd_files: Prv2, flags: tuple[str, str]) -> None:
    before = _folder()
    _check_refusal(odd_files("refine", "photo.jpg", *flags), before, 1, "use it with --")


@pytest.mark.parametrize("line", ["nope", "info", "convert a.png", "info nowhere.png", "info photo.jpg"])
def test_other_commands_refuse_in_one_line_too(odd_files: Prv2, line: str) -> None:
    before = _folder()
    code = 1 if line.startswith("info ") else 2
    _check_refusal(odd_files(*line.split()), before, code, "")


def test_no_arguments_show_the_help(prv2: Prv2) -> None:
    answer = prv2()
    assert answer.code in (0, 2)  # by the version of Typer
    assert b"Usage" in answer.out + answer.err.encode()
    assert "error" not in answer.err


# --- what nobody planned ----------------------------------------------------------------------------------


@pytest.fixture
def broken(prv2: Prv2, monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make the refiner fail in the middle of its work."""

    def fail_with(error: BaseException) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("prv2cli.refine.tiles.loop.TileLoop._refine_batch", fail)

    return fail_with


@pytest.mark.usefixtures("loaded_once")
def test_an_unexpected_exception_is_called_a_bug(prv2: Prv2, broken: Callable[[BaseException], None]) -> None:
    broken(RuntimeError("boom"))
    before = _folder()
    answer = prv2("refine", "photo.jpg", "-q", *EXACT)
    assert (answer.code, answer.out, _folder()) == (1, b"", before)
    first, second = answer.err.splitlines()
    assert first == "error: RuntimeError: boom"
    assert "bug" in second
    assert "--debug" in second
    with pytest.raises(RuntimeError, match="boom"):
        prv2("refine", "photo.jpg", *EXACT, debug=True)


@pytest.mark.usefixtures("loaded_once")
def test_ctrl_c_leaves_nothing_behind(prv2: Prv2, broken: Callable[[BaseException], None]) -> None:
    broken(KeyboardInterrupt())
    before = _folder()
    assert prv2("refine", "photo.jpg", "-q", *EXACT) == (130, b"", "interrupted\n")
    assert _folder() == before


@pytest.mark.usefixtures("prv2")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_works_anywhere_on_the_line(place: int) -> None:
    arguments = ["refine", "nowhere.jpg"]
    arguments.insert(place, "--debug")
    with pytest.raises(InputError, match=r"nowhere\.jpg"):
        app.main(arguments)
    with pytest.raises(SystemExit) as end:
        app.main(["refine", "nowhere.jpg"])
    assert end.value.code == 1


def test_names_are_printed_as_they_are(prv2: Prv2) -> None:
    assert "[red]a:smile:.jpg: no such file" in prv2("refine", "[red]a:smile:.jpg").err


# --- info and convert -------------------------------------------------------------------------------------


def test_info_says_what_a_file_holds(prv2: Prv2) -> None:
    write_depth(Path("a.png"), _ramp(), DepthMetadata(model="some-model"), scale=1000)
    answer = prv2("info", "a.png")
    assert (answer.code, answer.err) == (0, "")
    for word in (b"40 x 30", b"metre", b"some-model", b"1000 stored numbers"):
        assert word in answer.out
    answer = prv2("info", "a.png", "--json")
    assert answer.out.count(b"\n") == 1
    assert json.loads(answer.out) == depth_info(Path("a.png"))


def test_convert_there_and_back_loses_only_the_rounding(prv2: Prv2) -> None:
    np.save("a.npy", _ramp())
    assert prv2("convert", "a.npy", "b.png", "--scale", "1", "--depth-scale", "5000") == (0, b"", "")
    assert prv2("convert", "b.png", "c.npy", "--inverse").code == 0
    found = read_depth(Path("c.npy"))
    assert found.metadata.unit == "1/metre"
    np.testing.assert_allclose(1 / found.values, _ramp(), atol=0.51 / 5000)
    answer = prv2("convert", "b.png", "-", "--format", "npz")
    assert (answer.code, answer.err) == (0, "")
    np.testing.assert_allclose(read_depth(io.BytesIO(answer.out)).values, _ramp(), atol=0.51 / 5000)


def test_convert_says_what_it_clips_and_keeps_what_it_must(prv2: Prv2) -> None:
    np.save("a.npy", _ramp() * 100)
    answer = prv2("convert", "a.npy", "b.png", "--scale", "1")
    assert answer.code == 0
    assert answer.err.startswith("warning: b.png: ")
    assert "clipped" in answer.err
    before = _folder()
    answer = prv2("convert", "a.npy", "b.png", "--scale", "1", "--no-overwrite")
    _check_refusal(answer, before, 1, "b.png ... --no-overwrite")


@pytest.mark.usefixtures("loaded_once")
def test_a_map_that_is_refined_keeps_the_focal_length_that_it_states(prv2: Prv2) -> None:
    """In pixels of the photograph now, and good enough for a mesh."""
    write_depth(Path("first.npy"), _ramp(), DepthMetadata(focal_px=44.0, focal_origin="estimated"))
    answer = prv2(
        "refine", "photo.jpg", "--coarse-depth", "first.npy", "-o", "a.npy", "--export", "a.ply", *EXACT
    )
    assert answer.code == 0, answer.err
    about = read_depth(Path("a.npy")).metadata
    assert about.focal_px == pytest.approx(44 * WIDTH / 40)
    assert about.focal_origin == "estimated"
    given = prv2(
        "refine", "photo.jpg", "--coarse-depth", "first.npy", "-o", "b.npy", "--focal-px", 99, *EXACT
    )
    assert given.code == 0
    assert read_depth(Path("b.npy")).metadata.focal_px == 99
