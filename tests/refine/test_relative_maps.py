"""Relative inverse maps: adding a constant adds it, scaling scales, the sky stays far, files keep what is at 0."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from prv2cli.choices import Kind
from prv2cli.cli.app import app
from prv2cli.depth_files.info import depth_info
from prv2cli.errors import UsageError
from prv2cli.refine.refiner import Refiner


@pytest.fixture(scope="module")
def inverse() -> np.ndarray:
    """(60, 84): a floor, a box before it, and a sky at 0."""
    y, x = np.mgrid[0:60, 0:84]
    values = np.where(y > 24, 0.02 * (y - 24), 0.0) + 0.0 * x
    values[20:40, 14:32] = 0.9
    return values.astype(np.float32)


def _refine(
    refiner: Refiner, photograph: np.ndarray, values: np.ndarray, kind: Kind = "inverse"
) -> np.ndarray:
    found = refiner.refine(photograph, coarse_depth=values, coarse_kind=kind, coarse_unit="relative")
    assert (found.kind, found.unit, found.affine) == (kind, "relative", True)
    return found.depth


@pytest.fixture(scope="module")
def refined(refiner: Refiner, photograph: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    return _refine(refiner, photograph, inverse)


@pytest.mark.parametrize(("factor", "constant"), [(1.0, 5.0), (1.0, -0.3), (37.0, 0.0), (255.0, 12.0)])
def test_an_affine_change_of_the_map_is_one_of_the_result(
    refiner: Refiner,
    photograph: np.ndarray,
    inverse: np.ndarray,
    refined: np.ndarray,
    factor: float,
    constant: float,
) -> None:
    changed = _refine(refiner, photograph, (factor * inverse + constant).astype(np.float32))
    assert np.abs(changed - (factor * refined + constant)).max() < 2e-3 * factor


def test_the_sky_stays_far(refined: np.ndarray) -> None:
    assert np.abs(refined[:50]).max() < 0.02  # 0.9 is the box


def test_relative_depth_with_a_zero_is_the_same_the_other_way_round(
    refiner: Refiner, photograph: np.ndarray, inverse: np.ndarray, refined: np.ndarray
) -> None:
    depth = _refine(refiner, photograph, -inverse, "depth")
    assert np.abs(depth + refined).max() < 2e-3


@pytest.mark.parametrize("flags", [(), ("--inverse",)])
def test_files_hold_what_is_far(
    folder: Path, photograph: np.ndarray, inverse: np.ndarray, flags: tuple[str, ...]
) -> None:
    Image.fromarray(photograph).save(folder / "photo.png")
    Image.fromarray((inverse * 200).astype(np.uint8)).save(folder / "map.png")
    command = ["refine", str(folder / "photo.png"), "--coarse-depth", str(folder / "map.png")]
    command += ["--coarse-kind", "inverse", "-o", str(folder / "out.npy"), "--device", "cpu", *flags]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = np.load(folder / "out.npy")
    assert np.isfinite(found).all()
    sky, box = found[:40].mean(), found[160, 100]
    assert (sky < 2 and box > 120) if flags else (sky > 20 * box)


def test_a_map_of_another_aspect_may_cover_it_all(
    folder: Path, photograph: np.ndarray, inverse: np.ndarray
) -> None:
    Image.fromarray(photograph).save(folder / "photo.png")
    np.save(folder / "map.npy", inverse[:, :60])
    command = [
        "refine",
        str(folder / "photo.png"),
        "--coarse-depth",
        str(folder / "map.npy"),
        "--coarse-relative",
    ]
    command += ["--coarse-kind", "inverse", "-o", str(folder / "out.npy"), "--device", "cpu"]
    assert CliRunner().invoke(app, command).exit_code != 0
    assert CliRunner().invoke(app, [*command, "--coarse-stretch"]).exit_code == 0
    assert np.load(folder / "out.npy").shape == photograph.shape[:2]


def test_pictures_of_relative_depth_are_bright_where_it_is_near(
    folder: Path, photograph: np.ndarray, inverse: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its nearest are 0 or below: no holes, and not black."""
    monkeypatch.chdir(folder)
    Image.fromarray(photograph).save(folder / "photo.png")
    np.save(folder / "map.npy", -inverse)
    command = [
        "refine",
        "photo.png",
        "--coarse-depth",
        "map.npy",
        "--coarse-relative",
        "-o",
        "d.npy",
        "--preview",
    ]
    command += ["look.png", "--export", "picture:near.png", "--compare", "c.png", "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    near = np.asarray(Image.open("near.png")).astype(int)
    box, sky = near[140:180, 90:130], near[:40]
    assert box.min() > 50_000 > 10_000 > sky.max()
    look = np.asarray(Image.open("look.png")).astype(int).sum(axis=2)
    assert look[140:180, 90:130].mean() > look[:40].mean() + 200
    assert not (np.asarray(Image.open("look.png")) == 128).all(axis=2).any()


def test_the_report_is_of_the_file(
    folder: Path, photograph: np.ndarray, inverse: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unit, kind and range, where the file holds 1/x of what was refined."""
    monkeypatch.chdir(folder)
    Image.fromarray(photograph).save(folder / "photo.png")
    np.save(folder / "map.npy", inverse)
    flags = ["--coarse-depth", "map.npy", "--coarse-kind", "inverse", "--coarse-relative", "--device", "cpu"]
    for more in ([], ["--inverse"]):
        result = CliRunner().invoke(
            app, ["refine", "photo.png", *flags, *more, "-o", "d.npy", "--json", "-q"]
        )
        assert result.exit_code == 0, result.output
        told, held = json.loads(result.stdout), depth_info(Path("d.npy"))
        assert (told["unit"], told["kind"]) == (held["unit"], held["kind"])
        assert told["unit"] == ("1/relative" if more else "relative")
        for key in ("min", "max"):
            assert told[key] == pytest.approx(held[key], rel=1e-5)


def test_words_that_mean_nothing_are_refused(
    refiner: Refiner, photograph: np.ndarray, inverse: np.ndarray
) -> None:
    for words in ({"coarse_kind": "disparity"}, {"coarse_unit": "m"}):
        with pytest.raises(UsageError, match=r"coarse_(kind|unit) '(disparity|m)': use"):
            refiner.refine(photograph, coarse_depth=inverse, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "flags"), [("inverse", ()), ("depth", ("--inverse",))])
def test_a_map_below_0_is_not_turned_over(
    folder: Path, photograph: np.ndarray, inverse: np.ndarray, kind: Kind, flags: tuple[str, ...]
) -> None:
    """Nothing of it can be told: it would be a file of one number."""
    Image.fromarray(photograph).save(folder / "photo.png")
    np.save(folder / "map.npy", inverse - 10)
    command = ["refine", str(folder / "photo.png"), "--coarse-depth", str(folder / "map.npy")]
    command += ["--coarse-kind", kind, "--coarse-relative", "-o", str(folder / "out.npy"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, *flags])
    assert isinstance(result.exception, UsageError)
    assert "--inverse" in str(result.exception)
    assert not (folder / "out.npy").exists()
    other = () if flags else ("--inverse",)
    assert CliRunner().invoke(app, [*command, *other]).exit_code == 0
    assert np.load(folder / "out.npy").std() > 0.1
