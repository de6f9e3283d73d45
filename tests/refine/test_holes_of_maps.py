"""Holes of a given map: filled and counted, or kept as they are."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from prv2cli.choices import Kind, Unit
from prv2cli.cli.app import app
from prv2cli.coarse.given import holes_of, pixels_in
from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.read import read_depth
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject


def _map(photograph: np.ndarray) -> np.ndarray:
    """A fifth of the photograph's size, 2 to 5 metres, with a hole and a wide band without depth at the top."""
    rows, columns = photograph.shape[0] // 5, photograph.shape[1] // 5
    values = np.linspace(5, 2, rows)[:, None] * np.ones(columns)
    values[: rows // 2] = np.nan
    values[-4:-1, 3:9] = np.nan
    return values.astype(np.float32)


def _nearest(holes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """By pixel centres, one pixel after the other."""
    lines = [int((y + 0.5) / size[0] * holes.shape[0]) for y in range(size[0])]
    columns = [int((x + 0.5) / size[1] * holes.shape[1]) for x in range(size[1])]
    return holes[np.ix_(lines, columns)]


@pytest.mark.parametrize(
    ("kind", "unit"), [("depth", "metre"), ("inverse", "metre"), ("inverse", "relative")]
)
def test_kept_or_filled_and_counted(refiner: Refiner, photograph: np.ndarray, kind: Kind, unit: Unit) -> None:
    values = _map(photograph)
    holes = _nearest(np.isnan(values), photograph.shape[:2])
    results = [
        refiner.run(
            [Subject(photograph, given=GivenDepth(values, kind, unit, keep_holes=keep))], RefineRequest()
        )[0]
        for keep in (True, False)
    ]
    kept, filled = results
    assert np.array_equal(np.isnan(kept.depth), holes)
    assert (kept.masked, kept.filled) == (int(holes.sum()), 0)
    assert np.isfinite(filled.depth).all()
    assert (filled.masked, filled.filled) == (0, int(holes.sum()))
    np.testing.assert_array_equal(kept.depth[~holes], filled.depth[~holes])


def test_confidence_is_not_known_where_holes_are_kept(refiner: Refiner, photograph: np.ndarray) -> None:
    given = GivenDepth(_map(photograph), keep_holes=True)
    (result,) = refiner.run([Subject(photograph, given=given)], RefineRequest(confidence=True))
    assert result.confidence is not None
    assert np.array_equal(np.isnan(result.confidence), np.isnan(result.depth))


def test_a_map_without_holes_keeps_none(refiner: Refiner, photograph: np.ndarray) -> None:
    given = GivenDepth(np.nan_to_num(_map(photograph), nan=3.0), keep_holes=True)
    (result,) = refiner.run([Subject(photograph, given=given)], RefineRequest())
    assert (result.masked, result.filled, bool(np.isnan(result.depth).any())) == (0, 0, False)


@pytest.mark.parametrize("keep_holes", [True, False])
def test_the_result_says_which_holes_it_keeps(
    refiner: Refiner, photograph: np.ndarray, keep_holes: bool
) -> None:
    values = _map(photograph)
    (result,) = refiner.run(
        [Subject(photograph, given=GivenDepth(values, keep_holes=keep_holes))], RefineRequest()
    )
    assert (result.seen is not None) == keep_holes
    assert result.seen is None or np.array_equal(result.seen, ~np.isnan(values))


@pytest.mark.parametrize("size", [(7, 9), (30, 40), (31, 43), (3, 4)])
def test_pixels_are_counted_as_they_are_masked(size: tuple[int, int]) -> None:
    holes = np.random.default_rng(1).random((5, 6)) < 0.4
    assert pixels_in(holes, size) == _nearest(holes, size).sum()


def test_what_a_hole_is() -> None:
    values = np.array([[1, 0, -1, np.nan, np.inf]], np.float32)
    assert holes_of(values, "metre").tolist() == [[False, True, True, True, True]]
    assert holes_of(values, "relative").tolist() == [[False, False, False, True, True]]


@pytest.mark.parametrize("unit", ["metre", "relative"])
def test_on_the_command_line(tmp_path: Path, photograph: np.ndarray, monkeypatch: Any, unit: str) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photograph).save("photo.png")
    values = _map(photograph)
    np.save("map.npy", values)
    of_unit = (
        ["--coarse-scale", "1"] if unit == "metre" else ["--coarse-relative", "--coarse-kind", "inverse"]
    )
    flags = ["refine", "photo.png", "--coarse-depth", "map.npy", *of_unit, "--json", "--precision", "fp32"]

    def run(*more: str) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answer = CliRunner().invoke(app, [*flags, *more])
        assert answer.exit_code == 0, answer.output
        return dict(json.loads(answer.stdout.splitlines()[-1]))

    count = int(_nearest(np.isnan(values), photograph.shape[:2]).sum())
    kept = run("-o", "kept.npy", "--keep-holes", "--preview", "kept.png")
    assert (kept["masked"], kept["filled"]) == (count, 0)
    assert f"{count} pixels have no depth, as in the given map" in kept["notes"]
    about = depth_info(Path("kept.npy"))
    assert (about["masked"], about["filled"], about["invalid"]) == (count, 0, count)
    filled = run("-o", "filled.npy")
    assert (filled["masked"], filled["filled"]) == (0, count)
    assert any(
        note.startswith(f"{count} pixels have none in the given map and were filled")
        for note in filled["notes"]
    )
    about = depth_info(Path("filled.npy"))
    assert (about["masked"], about["filled"], about["invalid"]) == (0, count, 0)
    run("-o", "kept.png", "--keep-holes", "--depth-scale", "1000")
    assert int(np.isnan(read_depth(Path("kept.png")).values).sum()) == count
