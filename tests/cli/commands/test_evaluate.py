"""`prv2 eval` from its arguments to its figures."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from depth_pairs import files, slope, write
from PIL import Image

from prv2cli.cli.commands.evaluate import evaluate
from prv2cli.errors import Prv2Error


def prv2_eval(*arguments: object) -> int:
    """The exit code of the command; its errors as exceptions."""
    app = typer.Typer()
    app.command()(evaluate)
    result = app([str(a) for a in arguments], standalone_mode=False)
    return result if isinstance(result, int) else 0


def test_the_command_on_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred = files(tmp_path / "p", a=1.1 * slope(), b=1.3 * slope())
    truth = files(tmp_path / "t", a=slope(), b=slope())
    assert prv2_eval("--pred", pred, "--gt", truth, "--json", "--per-image", "--no-boundaries") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["means"]["prediction"]["abs_rel"] == pytest.approx(0.2, rel=1e-5)
    assert [image["name"] for image in told["per_image"]] == ["a", "b"]
    assert told["measure"]["cap"] == [0.001, 80.0]
    maps = tmp_path / "maps"
    code = prv2_eval(
        *(
            "--pred",
            pred,
            "--gt",
            truth,
            "--per-image",
            "--error-maps",
            maps,
            "--align",
            "scale",
            "--cap",
            1,
            15,
        )
    )
    out = capsys.readouterr().out
    assert code == 0
    assert "mean of 2 images" in out
    assert next(line for line in out.splitlines() if line.startswith("AbsRel")).split()[-1] == "0.0000"
    assert sorted(path.name for path in maps.iterdir()) == ["a.prediction.png", "b.prediction.png"]


def test_names_in_a_pipe_are_whole_and_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{'frankfurt' * 8}_{n:06d}" for n in (294, 295)]
    harmful = "a\x1b[2Jb"
    for side in "pt":
        files(tmp_path / side, **dict.fromkeys([*names, harmful], slope()))
    (tmp_path / "p" / f"{harmful}.npy").write_bytes(b"no depth")
    arguments = ("--pred", tmp_path / "p", "--gt", tmp_path / "t", "--no-boundaries", "--per-image")
    assert prv2_eval(*arguments) == 1
    captured = capsys.readouterr()
    joined = "".join(line.split(" ")[0] for line in captured.out.splitlines())
    assert all(name in joined for name in names)
    assert "\x1b" not in captured.out + captured.err
    assert r"a\x1b[2Jb is left out" in captured.err


def test_the_command_tells_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred = files(tmp_path / "p", a=slope())
    truth = files(tmp_path / "t", a=slope(), b=slope())
    assert prv2_eval("--pred", pred, "--gt", truth, "--json") == 1
    captured = capsys.readouterr()
    assert "b.npy: no prediction" in captured.err
    assert len(json.loads(captured.out)["unmatched"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --config eval.yaml, or --pred A --gt B"),
        (("--pred", "a"), "give --config eval.yaml, or --pred A --gt B"),
        (("--config", "e.yaml", "--pred", "a"), "give one of the two"),
        (("--config", "e.yaml", "--gt-scale", 2), "--gt-scale goes with --pred and --gt"),
        (("--pred", "a", "--gt", "b", "--model", "x"), "--model goes with --config"),
        (("--pred", "a", "--gt", "b", "--cap", 5, 1), "the flags: cap: expected two depths"),
        (("--pred", "a", "--gt", "b", "--align-space", "disparity"), "--align-space. does nothing without"),
        (("--pred", "a", "--gt", "b"), "--pred a: no such file"),
        (("--config", "none.yaml"), "none.yaml: no such file"),
        (("--config", "none.yaml", "--error-maps", __file__), "--error-maps .*name a folder"),
    ],
)
def test_the_command_refuses(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(Prv2Error, match=message):
        prv2_eval(*arguments)


def test_the_command_with_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in "ab":
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), np.uint8)).save(tmp_path / f"images/{name}.png")
    files(tmp_path / "depth", a=np.full((64, 96), 3, np.float32))
    config = write(tmp_path / "e.yaml", f"data: {{layout: folder, root: '{tmp_path}'}}\nmodel: refiner-s\n")
    code = prv2_eval(
        *("--config", config, "--coarse", "lite", "--device", "cpu", "--precision", "fp32", "--json"),
    )
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert code == 1  # b has no depth file
    assert "b is left out:" in captured.err
    assert list(told["means"]) == ["coarse", "refined"]
    assert (told["model"], told["coarse"], told["images"]) == ("refiner-s", "lite", 1)
    assert math.isfinite(told["means"]["refined"]["rmse"])


def test_coarse_networks_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    Image.fromarray(rng.integers(0, 255, (64, 96, 3), np.uint8)).save(tmp_path / "images/a.png")
    files(tmp_path / "depth", a=np.full((64, 96), 3, np.float32))
    config = write(tmp_path / "e.yaml", f"data: {{layout: folder, root: '{tmp_path}'}}\nmodel: refiner-s\n")
    gone = tmp_path / "gone.safetensors"
    asked = ("--config", config, "--compare-coarse", "lite", "--compare-coarse", gone, "--device", "cpu")
    maps = tmp_path / "maps"
    assert prv2_eval(*asked, "--json", "--error-maps", maps) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert list(told["networks"]) == ["lite"]
    assert list(told["networks"]["lite"]["means"]) == ["coarse", "refined"]
    assert told["model"] == "refiner-s"
    assert list(told["failed"]) == [str(gone)]
    assert "gone.safetensors is left out: " in captured.err
    assert sorted(path.name for path in (maps / "lite").iterdir()) == ["a.coarse.png", "a.refined.png"]
    assert prv2_eval(*asked[:4], "--device", "cpu", "--per-image") == 0
    lines = capsys.readouterr().out.splitlines()
    starts = ("network", "lite", "  + refiner-s", "", "lite", "image", "a", "a")
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == list(starts)
    value = told["networks"]["lite"]["means"]["coarse"]["abs_rel"]
    assert f"{value:.4f}" in lines[1].split()
    with pytest.raises(Prv2Error, match=r"gone\.safetensors"):
        prv2_eval("--config", config, "--compare-coarse", gone)
    with pytest.raises(Prv2Error, match="takes the place of coarse"):
        prv2_eval(*asked, "--coarse", "lite")


def test_measuring_files_needs_no_torch(tmp_path: Path) -> None:
    pred, truth = files(tmp_path / "p", a=slope()), files(tmp_path / "t", a=slope())
    code = (
        "import sys, typer; from prv2cli.cli.commands.evaluate import evaluate;"
        "app = typer.Typer(); app.command()(evaluate);"
        f"app(['--pred', {str(pred)!r}, '--gt', {str(truth)!r}, '--json'], standalone_mode=False);"
        "print({'torch', 'timm'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip().splitlines()[-1:] == ["set()"], done.stderr
    assert json.loads(done.stdout)["images"] == 1
    assert importlib.util.find_spec("torch")  # it is installed, and was not loaded
