"""`prv2 batch` as a program: its inputs, streams, exit codes and signals. The models are a stand-in."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from closed_folders import close_folder
from fake_refiner import FakeRefiner
from PIL import Image

from prv2cli.cli import app
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import OutputError
from prv2cli.refine.request import Models

TESTS = Path(__file__).parents[2]
_PROGRAM = """
import sys, time
sys.path.insert(0, {tests!r})
from fake_refiner import FakeRefiner
from prv2cli.refine.refiner import Refiner
def load(cls, models, check=None):
    print("loading", file=sys.stderr, flush=True)
    time.sleep({loading})
    return FakeRefiner(0.1)
Refiner.load = classmethod(load)
from prv2cli.cli.app import main
main(sys.argv[1:])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photographs in `in`."""
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate(("a.png", "b.jpg", "below/c.png")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 200, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Run `prv2 batch`: (exit code, stdout, stderr)."""
    from prv2cli.refine.refiner import Refiner

    def load(models: Models, check: Any = None) -> Any:
        refiner: Any = FakeRefiner()
        refiner.coarse = refiner.coarse if models.coarse else None
        return refiner

    monkeypatch.setattr(Refiner, "load", load)

    def run(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        capsys.readouterr()
        code = app._run(["batch", *map(str, arguments)], debug=False)
        return code, *capsys.readouterr()

    return run


def _outputs(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_folder_goes_to_one_beside_it(batch: Any, folder: Path) -> None:
    code, out, err = batch("in")
    assert (code, out) == (0, "")
    assert err.splitlines()[-1].startswith(f"{folder / 'in_depth'}: 2 done, 0 already done, 0 failed in ")
    assert _outputs(folder / "in_depth") == ["a.tif", "b.tif"]
    code, _, err = batch("in", "-r", "-o", "in_depth")
    assert code == 0
    assert "1 done, 2 already done, 0 failed" in err
    assert _outputs(folder / "in_depth") == ["a.tif", "b.tif", "below/c.tif"]


@pytest.mark.parametrize("flags", [("--model", "refiner-s"), ("--coarse", "lite"), ()])
def test_a_folder_called_like_a_model_can_be_written_to_again(
    batch: Any, folder: Path, flags: tuple[str, ...]
) -> None:
    out = flags[-1] if flags else "auto"
    for _ in range(2):
        code, _, err = batch("in", *flags, "-o", out, "--overwrite")
        assert (code, "2 done, 0 already done, 0 failed" in err) == (0, True)


def test_names_formats_and_types(batch: Any, folder: Path) -> None:
    options = ("--format", "png", "--depth-scale", "1000", "--name", "{stem}_{suffix}_depth", "-q")
    assert batch("in", "-r", "-o", "out", *options) == (0, "", "")
    assert _outputs(folder / "out") == ["a_png_depth.png", "b_jpg_depth.png", "below/c_png_depth.png"]
    assert read_depth(folder / "out/a_png_depth.png").metadata.scale == 1000


def test_mirrored_passes_are_recorded_and_another_setting(batch: Any, folder: Path) -> None:
    assert batch("in", "-o", "out", "-q") == (0, "", "")
    assert "2 done, 0 already done" in batch("in", "-o", "out", "--tta", "flip")[2]
    assert read_depth(folder / "out/a.tif").metadata.tta == "flip"
    assert "0 done, 2 already done" in batch("in", "-o", "out", "--tta", "flip")[2]
    assert "2 done, 0 already done" in batch("in", "-o", "out", "--tta", "none")[2]


def test_photographs_of_one_name_keep_their_extensions(batch: Any, folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "in/a.jpg")
    assert batch("in", "-o", "out")[0] == 0
    assert _outputs(folder / "out") == ["a_jpg.tif", "a_png.tif", "b.tif"]


@pytest.mark.parametrize(("flags", "separator"), [((), b"\n"), ((), b"\r\n"), (("-0",), b"\0")])
def test_a_list_on_stdin(batch: Any, folder: Path, flags: tuple[str, ...], separator: bytes) -> None:
    strange = "in/two words, \u00e9.png"
    Image.new("RGB", (8, 8)).save(folder / strange)
    listed = separator.join(os.fsencode(p) for p in ("in/below/c.png", strange, str(folder / "in/a.png")))
    code, _, err = batch("-", *flags, "-o", "out", stdin=listed)
    assert code == 0, err
    assert _outputs(folder / "out") == ["a.tif", "in/below/c.tif", "in/two words, \u00e9.tif"]


def test_several_inputs_and_patterns(batch: Any, folder: Path) -> None:
    assert batch("in/a.png", "in/below", "-o", "out")[0] == 0
    assert batch("in/*.jpg", "-o", "out")[0] == 0
    assert _outputs(folder / "out") == ["a.tif", "b.tif", "c.tif"]


def test_json_is_one_line_a_file(batch: Any, folder: Path) -> None:
    (folder / "in/bad.jpg").write_bytes(b"text")
    code, out, err = batch("in", "-r", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert len(found) == 4
    by_state = {state: [f["input"] for f in found if f["state"] == state] for state in ("done", "failed")}
    assert len(by_state["done"]) == 3
    assert by_state["failed"] == ["in/bad.jpg"]
    assert any(line.startswith("error: in/bad.jpg") for line in err.splitlines())
    assert "1 failed" in err.splitlines()[-1]


def test_shards_are_parts_of_the_whole(batch: Any, folder: Path) -> None:
    done = []
    for index in (1, 2, 3):
        code, out, _ = batch("in", "-r", "-o", "out", "--shard", f"{index}/3", "--json")
        assert code == 0
        done += [json.loads(line)["output"] for line in out.splitlines()]
    assert sorted(done) == ["out/a.tif", "out/b.tif", "out/below/c.tif"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere",), 2, "-o OUTDIR"),
        (("nowhere", "-o", "out"), 1, "nowhere: no such file"),
        (("in", "-o", "in/a.png"), 1, "that is a file"),
        (("empty",), 1, "no photograph in empty"),
        (("-",), 2, "-o OUTDIR"),
        (("-", "in", "-o", "out"), 2, "leave out the other inputs"),
        (("in", "-0"), 2, "-0"),
        (("in", "--shard", "4/3"), 2, "--shard 4/3"),
        (("in", "--name", "{date}"), 2, "{date}"),
        (("in", "--name", "same"), 2, "--name"),
        (("in", "--name", "../{stem}"), 2, "--name"),
        (("in", "--format", "gif"), 2, "--format gif"),
        (("in", "--format", "png", "--dtype", "float32"), 2, "--dtype float32"),
        (("in", "--model", "nope"), 2, "'nope'"),
        (("in", "--device", "foo"), 2, "--device foo"),
        (("in", "--tile", "abc"), 2, "--tile abc"),
        (("*.xyz", "-o", "out"), 1, "*.xyz"),
        (("in", "--coarse-depth", "nowhere"), 2, "--coarse-depth nowhere: no such folder"),
        (("in", "--coarse-depth", "in/a.png"), 2, "--coarse-depth in/a.png: no such folder"),
        (("in", "--coarse-name", "{stem}.npy"), 2, "--coarse-name ... give --coarse-depth FOLDER"),
        (("in", "--coarse-depth", "embedded", "--coarse-name", "{stem}"), 2, "--coarse-name"),
        (
            ("in", "--coarse-depth", "empty", "--coarse-name", "x.png"),
            2,
            "every photograph would have the same map",
        ),
        (("in", "--coarse-depth", "empty", "--coarse", "lite"), 2, "--coarse and --coarse-depth"),
        (("in", "--coarse-scale", "1"), 2, "--coarse-scale"),
        (("in", "--keep-holes"), 2, "--keep-holes"),
        (("in", "--coarse-depth", "empty", "--coarse-invalid", "black"), 2, "--coarse-invalid black"),
        (("in", "--preview", "look.png"), 2, "--preview look.png"),
        (("in", "--preview", "{stem}.gif"), 2, "--preview {stem}.gif"),
        (("in", "--confidence", "{stem}.tif"), 2, "--confidence {stem}.tif"),
        (("/",), 2, "-o OUTDIR ... nothing lies beside /"),
        (("in", "--coarse-depth", "in", "--coarse-scale", "0"), 2, "--coarse-scale 0"),
    ],
)
def test_wrong_calls_are_one_line(
    batch: Any, folder: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (folder / "empty").mkdir()
    before = _outputs(folder)
    found, out, err = batch(*arguments)
    assert (found, out) == (code, "")
    assert all(part in err for part in words.split(" ... "))
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert _outputs(folder) == before


def test_a_photograph_is_never_its_own_output(batch: Any, folder: Path) -> None:
    before = (folder / "in/a.png").read_bytes()
    for flags in ([], ["--overwrite"]):
        code, _, err = batch("in", "-o", "in", "--format", "png", *flags)
        assert code == 1
        assert "in/a.png" in err
        assert "--name '{stem}_depth'" in err
        assert (folder / "in/a.png").read_bytes() == before
        assert "1 done" in err
    code, _, err = batch("in", "-o", "in", "--format", "png", "--name", "{stem}_depth")
    assert code == 0, err
    assert "2 done" in err


def test_own_outputs_among_photographs_are_told(batch: Any, folder: Path) -> None:
    for _ in range(2):
        code, out, err = batch("in", "-o", "in", "-r", "--json")
        assert code == 0, err
    states = [json.loads(line)["state"] for line in out.splitlines()]
    assert sorted(states) == ["left out"] * 3 + ["skipped"] * 3
    assert "made by prv2" in err
    assert err.splitlines()[-1].split(" in ")[0].endswith("0 failed, 3 left out")


def test_what_cannot_be_seen_is_a_failure_and_the_rest_is_done(
    batch: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_folder(monkeypatch, "below")
    code, out, err = batch("in", "-r", "--json", "-o", "out")
    assert code == 1
    assert "in/below: cannot be looked into" in err
    assert sorted(json.loads(line)["state"] for line in out.splitlines()) == ["done", "done", "failed"]


def test_a_full_disk_under_the_report_costs_no_depth_map(
    batch: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OutputError("stdout: no space left")

    monkeypatch.setattr(sys, "stdout", Full())
    code, _, err = batch("in", "-r", "--json", "-o", "out")
    assert code == 1
    assert "error: stdout: no space left" in err
    assert "3 done" in err
    assert _outputs(folder / "out") == ["a.tif", "b.tif", "below/c.tif"]


def _start(folder: Path, *arguments: str, loading: float = 0) -> subprocess.Popen[str]:
    """The program over 42 photographs, a tenth of a second each; it says "loading" on stderr when it loads."""
    for k in range(40):
        Image.new("RGB", (16, 16), (k, k, k)).save(folder / f"in/{k}.png")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
    }
    program = _PROGRAM.format(tests=str(TESTS / "support"), loading=loading)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, "batch", "in", "-o", "out", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, their shell has Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _patience() -> float:
    """Seconds within which a program has ended: two on an idle machine, more where processes queue for its cores."""
    return 2 + 3 * max(1, os.getloadavg()[0] / (os.cpu_count() or 1))


def _check_whole(folder: Path) -> int:
    """How many outputs there are: all whole, and nothing else beside them."""
    left = _outputs(folder / "out")
    assert all(name.endswith(".tif") and not name.startswith(".") for name in left)
    for name in left:
        read_depth(folder / "out" / name)
    return len(left)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_batch_soon_and_cleanly(folder: Path, number: signal.Signals) -> None:
    process = _start(folder)
    deadline = time.monotonic() + 60
    while not list(folder.glob("out/*.tif")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    start = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - start < _patience()
    assert process.returncode == 130, err
    assert (out, err.splitlines()[-1]) == ("", "interrupted")
    assert "Traceback" not in err
    assert 1 <= _check_whole(folder) < 42


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_models_load(folder: Path, number: signal.Signals) -> None:
    process = _start(folder, loading=60)
    assert process.stderr is not None
    assert process.stderr.readline() == "loading\n"
    process.send_signal(number)
    start = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - start < _patience()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert not (folder / "out").exists()


def test_a_reader_that_has_seen_enough(folder: Path) -> None:
    """prv2 batch --json ... | head -1"""
    process = _start(folder, "--json", "-q")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["state"] == "done"
    with process.stderr:
        process.stdout.close()
        assert process.stderr.read() == "loading\n"
    assert process.wait(timeout=60) == 1
    assert 1 <= _check_whole(folder) < 42


# --- given maps -------------------------------------------------------------------------------------------


def _maps(folder: Path, *names: str) -> None:
    """Maps of 2, 3, 4 ... metres at these places."""
    for metres, name in enumerate(names, 2):
        path = folder / "maps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((6, 8), metres, np.float32))


def _metres(path: Path) -> float:
    return float(np.median(read_depth(path).values))


def test_a_folder_of_maps(batch: Any, folder: Path) -> None:
    _maps(folder, "a.npy", "b.npy", "below/c.npy", "x.npy")
    call = ("in", "-r", "-o", "out", "--coarse-depth", "maps", "--coarse-scale", "1")
    code, out, err = batch(*call, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert {line["output"]: line["coarse"] for line in lines if line["state"] == "done"} == {
        "out/a.tif": "file a.npy",
        "out/b.tif": "file b.npy",
        "out/below/c.tif": "file c.npy",
    }
    (left,) = [line for line in lines if line["state"] == "left out"]
    assert (left["input"], left["why"]) == ("maps/x.npy", "a depth map without a photograph")
    assert "maps/x.npy" in err
    assert [_metres(folder / "out" / name) for name in ("a.tif", "b.tif", "below/c.tif")] == [2, 3, 4]
    assert "3 already done" in batch(*call)[2]


def test_a_map_that_changed_is_refined_again(batch: Any, folder: Path) -> None:
    _maps(folder, "a.npy", "b.npy", "below/c.npy")
    call = ("in", "-r", "-o", "out", "--coarse-depth", "maps", "--coarse-scale")
    assert batch(*call, 1)[0] == 0
    np.save(folder / "maps/b.npy", np.full((6, 8), 9, np.float32))
    assert "1 done, 2 already done" in batch(*call, 1)[2]
    assert _metres(folder / "out/b.tif") == 9
    assert "3 done" in batch(*call, 2)[2]
    assert _metres(folder / "out/b.tif") == 4.5


def test_another_array_of_the_same_files_is_refined_anew(batch: Any, folder: Path) -> None:
    (folder / "maps").mkdir()
    for stem in "ab":
        far, near = (np.full((6, 8), value, np.float32) for value in (9, 2))
        np.savez(folder / f"maps/{stem}.npz", far=far, near=near)
    call = ("in", "-o", "out", "--coarse-depth", "maps", "--coarse-scale", 1, "--coarse-name")
    assert "2 done" in batch(*call, "{stem}.npz:near")[2]
    assert _metres(folder / "out/a.tif") == 2
    assert "2 done" in batch(*call, "{stem}.npz:far")[2]
    assert _metres(folder / "out/a.tif") == 9
    assert "2 already done" in batch(*call, "{stem}.npz:far")[2]


def test_what_no_photograph_could_have_is_refused_before_the_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the model's own header: the program itself, not a stand-in."""
    assert app._run(["batch", "in", "-o", "out", "--tile", "500"], debug=False) == 2
    error = capsys.readouterr().err
    assert "--tile 500: must be a multiple of 64; use 512" in error
    assert len(error.splitlines()) == 1
    assert not (folder / "out").exists()


def test_a_photograph_without_a_map_is_told_and_the_others_are_done(batch: Any, folder: Path) -> None:
    _maps(folder, "a.npy", "below/c.npy")
    np.save(folder / "maps/below/c.npy", np.ones((8, 6), np.float32))
    call = ("in", "-r", "-o", "out", "--coarse-depth", "maps", "--coarse-scale", 1)
    code, _, err = batch(*call)
    assert code == 1
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("error: in/b.jpg: no depth map maps/b.*; --coarse-name")
    assert errors[1].startswith("error: in/below/c.png: the coarse depth map is 6x8, the photograph 32x24")
    assert "1 done, 0 already done, 2 failed" in err
    assert _outputs(folder / "out") == ["a.tif"]
    assert "0 failed" not in batch(*call, "--coarse-stretch")[2]


def test_no_output_takes_the_place_of_a_map(batch: Any, folder: Path) -> None:
    _maps(folder, "a.npy")
    before = (folder / "maps/a.npy").read_bytes()
    code, _, err = batch(
        "in/a.png",
        "-o",
        "maps",
        "--format",
        "npy",
        "--coarse-depth",
        "maps",
        "--coarse-scale",
        1,
        "--overwrite",
    )
    assert code == 1
    assert "would replace a map of --coarse-depth, maps/a.npy" in err
    assert (folder / "maps/a.npy").read_bytes() == before


def test_maps_inside_the_photographs(batch: Any, folder: Path) -> None:
    import phone_photos as phone

    linear: dict[str, Any] = {"Format": "RangeLinear", "Near": "2", "Far": "2.5", "Units": "m"}
    for orientation, name in ((1, "p.jpg"), (6, "q.jpg")):
        data = phone.gdepth(phone.encoded(phone.levels()), orientation=orientation, **linear)
        (folder / "in" / name).write_bytes(data)
    code, out, err = batch("in", "-o", "out", "--coarse-depth", "embedded", "--json")
    lines = {line["input"]: line for line in map(json.loads, out.splitlines())}
    assert code == 1
    assert {name: line["state"] for name, line in lines.items()} == {
        "in/a.png": "failed",
        "in/b.jpg": "failed",
        "in/p.jpg": "done",
        "in/q.jpg": "done",
    }
    assert lines["in/p.jpg"]["coarse"] == "GDepth, from the photograph"
    assert [(lines[name]["width"], lines[name]["height"]) for name in ("in/p.jpg", "in/q.jpg")] == [
        (64, 48),
        (48, 64),
    ]
    assert "in/a.png: holds no depth that prv2 finds" in err
    assert _metres(folder / "out/q.tif") == pytest.approx(2.25, abs=0.01)
    assert "2 already done" in batch("in", "-o", "out", "--coarse-depth", "embedded")[2]


def test_pictures_and_confidences_beside_the_depth_maps(batch: Any, folder: Path) -> None:
    call = ("in", "-o", "out", "--preview", "{stem}_look.jpg", "--confidence", "{stem}_sure.npy")
    code, out, _ = batch(*call, "--json")
    assert code == 0
    line = json.loads(out.splitlines()[0])
    assert (line["preview"], line["confidence"]["output"]) == ("out/a_look.jpg", "out/a_sure.npy")
    assert _outputs(folder / "out") == [
        f"{stem}{end}" for stem in "ab" for end in (".tif", "_look.jpg", "_sure.npy")
    ]
    assert "2 already done" in batch(*call)[2]
