"""The rows of a bench, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from torch import Tensor

from prv2cli import Refiner
from prv2cli.bench import networks, run
from prv2cli.bench.networks import Candidate
from prv2cli.bench.refiners import HeavyRefiner
from prv2cli.bench.report import BenchReport, NetworkReport, Row
from prv2cli.bench.run import rows_behind
from prv2cli.bench.schemes import coarse_pass, prv2, tiled
from prv2cli.cli.commands.bench import bench
from prv2cli.errors import Prv2Error
from prv2cli.model.config import F2CConfig

SCHEMES = ["up-sampling", "prv2", *["authors' PatchRefiner V2"] * 3, *["PatchRefiner"] * 3]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real widths, at sizes that take no time."""
    monkeypatch.setattr(run, "AUTHORS_PROCESS", (64, 64))
    monkeypatch.setattr(run, "MADE_SIZE", (96, 128))
    monkeypatch.setattr(networks, "_LITE_PROCESS", (64, 64))


def test_every_scheme_behind_one_network(
    small: None, refiner: Refiner, tiny: Candidate, rgb: np.ndarray
) -> None:
    ours = prv2(refiner, rgb, tiny.network.predict(rgb))
    rows = list(rows_behind(tiny, refiner, rgb, ours, 1))
    assert [row.scheme for row in rows] == SCHEMES
    assert len({row.parts["coarse"] for row in rows}) == 1  # one pass, which counts for all
    assert set(rows[1].parts) == {"coarse", "guide", "reduced", "tiles", "fuse"}
    assert rows[1].seconds == pytest.approx(ours.seconds + rows[0].parts["coarse"])
    assert [row.tiles for row in rows[2:5]] == [16, 49, 1]
    assert [row.measured for row in rows[2:5]] == [1, 1, 1]
    assert all(row.process_peak > 50e6 for row in rows)


def test_tiles_that_are_not_run_are_reckoned(refiner: Refiner, tiny: Candidate, rgb: np.ndarray) -> None:
    coarse = coarse_pass(tiny.network, rgb, refiner.device)
    calls: list[int] = []

    class Counting(HeavyRefiner):
        def refine(self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor]) -> Tensor:
            calls.append(len(rgb))
            return super().refine(rgb, depth, features)

    narrow = F2CConfig(widths=(8,) * 6, decoder_widths=(8,) * 5)
    heavy = Counting(tiny, refiner.device, narrow)
    m1, m2, grid = tiled("x", heavy, refiner, rgb, coarse, 2)
    assert sum(calls) == 2 + 1  # m2 is reckoned from m1; the grid has one tile
    assert m2.parts["tiles"] == pytest.approx(m1.parts["tiles"] * 49 / 16)
    assert m2.processor == pytest.approx(m1.processor * 49 / 16)
    assert m1.processor > 0
    assert (m1.measured, m2.measured, grid.measured) == (2, 2, 1)
    calls.clear()
    assert [row.measured for row in tiled("x", heavy, refiner, rgb, coarse, 100)] == [16, 49, 1]
    assert sum(calls) == 16 + 49 + 1


def test_ratios_are_of_all_that_a_scheme_takes() -> None:
    ours = Row("prv2", "grid", 1, 1, {"coarse": 1.0, "tiles": 3.0}, 2.0, 5)
    other = Row("PatchRefiner", "paper m1", 16, 2, {"coarse": 1.0, "tiles": 39.0}, 30.0, 5)
    report = BenchReport({"width": 7}, {"decode": 0.5}, (NetworkReport("lite", (ours, other)),))
    told = json.loads(json.dumps(report.to_json()))
    assert told["networks"]["lite"][1]["times_prv2"] == 10
    assert told["networks"]["lite"][1]["processor_times_prv2"] == 15
    assert told["networks"]["lite"][1]["seconds"] == 40
    assert (told["width"], told["seconds"]) == (7, {"decode": 0.5})


def prv2_bench(*arguments: object) -> None:
    app = typer.Typer()
    app.command()(bench)
    app([str(argument) for argument in arguments], standalone_mode=False)


def test_the_command(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)).save(photo)
    asked = ("--coarse", "lite", "--device", "cpu", "--precision", "fp32", "--tiles", 1)
    prv2_bench(photo, *asked, "--json")
    told = json.loads(capsys.readouterr().out)
    assert [row["scheme"] for row in told["networks"]["lite"]] == SCHEMES
    assert (told["width"], told["height"], told["device"], told["precision"]) == (128, 96, "cpu", "float32")
    assert set(told["seconds"]) == {"decode", "encode"}
    prv2_bench(*asked)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "made: 128 x 96"
    starts = ("behind lite", "up-sampling", "prv2, grid", "authors' PatchRefiner V2, m1")
    table = lines[4:]
    assert [line[: len(start)] for line, start in zip(table, starts, strict=False)] == list(starts)
    assert table[2].split()[-4] == "1.00"
    assert table[4].split()[-12:-10] == ["49", "1"]


def test_the_command_refuses(tmp_path: Path) -> None:
    with pytest.raises(Prv2Error, match=r"--coarse dav3: prv2 bench knows lite, dav2-s, moge2-s"):
        prv2_bench("--coarse", "dav3")
    with pytest.raises(Prv2Error, match=r"none\.jpg"):
        prv2_bench(tmp_path / "none.jpg", "--coarse", "lite")
    with pytest.raises(Prv2Error, match="--device gpu"):
        prv2_bench("--device", "gpu")


@pytest.mark.parametrize("name", ["dav2-s", "moge2-s"])
def test_the_real_shapes(name: networks.BenchNetwork) -> None:
    """Built without weights: their parameters are those of the published files, in millions."""
    import torch

    with torch.device("meta"):
        make, process = networks._RANDOM[name]
        module = networks.build_model(make())
    millions = sum(parameter.numel() for parameter in module.parameters()) / 1e6
    assert millions == pytest.approx({"dav2-s": 24.8, "moge2-s": 35}[name], rel=0.02)
    assert all(side % 14 == 0 for side in process)
