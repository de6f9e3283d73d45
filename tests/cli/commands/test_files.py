"""`prv2 info` and `prv2 convert`."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import typer
from depth_maps import (
    META,
    same,
    scene,
)
from PIL import Image
from typer.testing import CliRunner

from prv2cli.cli.commands import files
from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.errors import OutputError, UsageError

app = typer.Typer()
app.command()(files.info)
app.command()(files.convert)


def run(*arguments: object, stdin: bytes = b"") -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def test_command_info(folder: Path) -> None:
    path = folder / "a[b].png"
    write_depth(path, scene(), META)
    assert json.loads(run("info", path, "--json").stdout) == depth_info(path)
    table = run("info", path)
    assert table.exit_code == 0
    assert re.search(r"unit +metre", table.stdout)
    assert re.search(r"size +83 x 61", table.stdout)
    assert "a[b].png" in "".join(table.stdout.split())  # long paths are folded
    assert json.loads(run("info", "-", "--json", stdin=path.read_bytes()).stdout)["scale"] == 256
    Image.fromarray(np.full((3, 4), 1000, np.uint16)).save(folder / "mm.png")
    assert "unknown" in run("info", folder / "mm.png").stdout
    known = json.loads(run("info", folder / "mm.png", "--scale", 1000, "--kind", "inverse", "--json").stdout)
    assert (known["max"], known["unit"]) == (1, "1/metre")


def test_command_convert(folder: Path) -> None:
    Image.fromarray(np.array([[1000, 2000, 65535, 0]], np.uint16)).save(folder / "mm.png")
    refused = run("convert", folder / "mm.png", folder / "m.npy")
    assert isinstance(refused.exception, UsageError)
    assert "--scale" in str(refused.exception)
    assert "--relative" in str(refused.exception)
    done = run("convert", folder / "mm.png", folder / "m.tif", "--scale", 1000, "--dtype", "float32")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert same(tifffile.imread(folder / "m.tif"), np.array([[1, 2, 65.535, np.nan]], np.float32))
    clipped = run("convert", folder / "m.tif", folder / "c.png", "--depth-scale", 5000)
    assert (clipped.exit_code, clipped.stdout) == (0, "")
    assert "1 pixels" in clipped.stderr
    assert "--depth-scale" in clipped.stderr
    rounded = run("convert", folder / "m.tif", folder / "c.png", "--inverse")
    assert "1 pixels may be off" in rounded.stderr
    kept = run("convert", folder / "m.tif", folder / "c.png", "--no-overwrite")
    assert isinstance(kept.exception, OutputError)
    assert "c.png exists" in str(kept.exception)
    relative = run("convert", folder / "mm.png", folder / "r.npy", "--relative", "--kind", "inverse")
    assert (relative.exit_code, depth_info(folder / "r.npy")["unit"]) == (0, "1/relative")
    piped = run("convert", "-", "-", "--format", "npy", stdin=(folder / "m.tif").read_bytes())
    assert same(np.load(io.BytesIO(piped.stdout_bytes)), tifffile.imread(folder / "m.tif"))


def test_a_device_is_never_replaced(folder: Path) -> None:
    write_depth(folder / "a.npy", scene(), META)
    done = run("convert", folder / "a.npy", "/dev/null", "--format", "npy", "--no-overwrite")
    assert (done.exit_code, done.stderr) == (0, "")
