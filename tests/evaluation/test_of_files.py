"""Pairs of depth files: which belong together, in which unit, of which size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from depth_pairs import PLAIN, files, slope
from PIL import Image

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.errors import InputError, OutputError, UsageError
from prv2cli.evaluation.config import Measuring
from prv2cli.evaluation.of_files import Reading, evaluate_pairs, find_pairs


def test_pairs_by_path_and_every_file_alone_is_told(tmp_path: Path) -> None:
    pred = files(tmp_path / "p", a__one_depth=slope(), two_depth=slope(), extra_depth=slope())
    truth = files(tmp_path / "t", a__one=slope(), two=slope(), missing=slope())
    (pred / "notes.txt").write_text("no depth")
    (pred / ".hidden.npy").write_bytes(b"")
    pairs, alone = find_pairs(pred, truth, pred_suffix="_depth")
    assert [pair.name for pair in pairs] == ["a/one", "two"]
    assert len(alone) == 2
    assert any("missing.npy: no prediction" in line for line in alone)
    assert any("extra_depth.npy: no truth" in line for line in alone)
    with pytest.raises(InputError, match=r"--pred-suffix and --gt-suffix"):
        find_pairs(pred, truth)
    with pytest.raises(UsageError, match=r"--gt .*none: no such file"):
        find_pairs(pred, tmp_path / "none")
    with pytest.raises(UsageError, match="two folders or two files"):
        find_pairs(pred / "two_depth.npy", truth)
    assert find_pairs(pred / "two_depth.npy", truth / "two.npy")[0][0].name == "two_depth"


def test_units_of_pairs(tmp_path: Path) -> None:
    truth = slope()
    (tmp_path / "p").mkdir()
    (tmp_path / "t").mkdir()
    Image.fromarray(np.round(1.25 * truth * 1000).astype(np.uint16)).save(tmp_path / "p/a.png")
    np.save(tmp_path / "t/a.npy", 1 / truth)
    pairs, _ = find_pairs(tmp_path / "p", tmp_path / "t")
    with pytest.raises(UsageError, match="--gt-scale 1 if the numbers are metres"):
        evaluate_pairs(pairs, PLAIN)
    with pytest.raises(UsageError, match="--pred-scale 256"):
        evaluate_pairs(pairs, PLAIN, gt_reading=Reading(1, "inverse"))
    report = evaluate_pairs(pairs, PLAIN, gt_reading=Reading(1, "inverse"), pred_reading=Reading(1000))
    assert report.means()["prediction"]["abs_rel"] == pytest.approx(0.25, abs=1e-3)
    write_depth(tmp_path / "r.npy", truth, DepthMetadata(unit="relative"))
    pair = [pairs[0]._replace(pred=tmp_path / "r.npy")]
    with pytest.raises(UsageError, match=r"r\.npy has no physical unit: --align scale-shift"):
        evaluate_pairs(pair, PLAIN, gt_reading=Reading(1, "inverse"))
    with pytest.raises(UsageError, match=r"r\.npy: a truth without a physical unit"):
        evaluate_pairs([pair[0]._replace(truth=tmp_path / "r.npy")], PLAIN)
    aligned = evaluate_pairs(
        pair, Measuring(boundaries=False, align="scale"), gt_reading=Reading(1, "inverse")
    )
    assert aligned.means()["prediction"]["abs_rel"] < 1e-5


def test_what_is_aligned_need_not_say_its_unit(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p/a.npy", 3 / slope() + 1)  # as affine-invariant networks give it
    pairs, _ = find_pairs(tmp_path / "p", files(tmp_path / "t", a=slope()))
    how = Measuring(boundaries=False, align="scale-shift", align_space="disparity")
    with pytest.raises(UsageError, match="--pred-scale 1"):
        evaluate_pairs(pairs, PLAIN)
    report = evaluate_pairs(pairs, how, pred_reading=Reading(kind="inverse"))
    assert report.means()["prediction"]["abs_rel"] < 1e-4
    np.save(tmp_path / "t/a.npy", slope())
    with pytest.raises(UsageError, match="--gt-scale 1"):  # the truth must
        evaluate_pairs(pairs, how, pred_reading=Reading(kind="inverse"))


@pytest.mark.parametrize("resize", ["nearest", "bilinear"])
def test_sizes_of_pairs(tmp_path: Path, resize: Any) -> None:
    small = np.array([[1, 3], [1, 3]], np.float32)
    pairs, _ = find_pairs(
        files(tmp_path / "p", a=small, b=slope()), files(tmp_path / "t", a=np.full((2, 4), 2.0), b=slope())
    )
    told: list[str] = []
    report = evaluate_pairs(pairs, PLAIN, tell=told.append)
    assert [image.name for image in report.images] == ["b"]
    assert "is 2 x 2 and its truth 4 x 2; --resize nearest or bilinear" in told[0]
    report = evaluate_pairs(pairs, PLAIN, resize=resize)
    # nearest: 1 1 3 3; bilinear: 1 1.5 2.5 3, against 2 2 2 2
    expected = 0.5 if resize == "nearest" else (0.5 + 0.25 + 0.25 + 0.5) / 4
    assert report.images[0].figures["prediction"]["abs_rel"] == pytest.approx(expected)


def test_error_maps_replace_error_maps_alone(tmp_path: Path) -> None:
    truth = files(tmp_path / "t", a=slope())
    pred = tmp_path / "p"
    pred.mkdir()
    write_depth(pred / "a.prediction.png", slope(), DepthMetadata())
    pairs, _ = find_pairs(pred, truth, pred_suffix=".prediction")
    before = (pred / "a.prediction.png").read_bytes()
    with pytest.raises(UsageError, match=r"--error-maps .*a\.prediction\.png: that is a prediction"):
        evaluate_pairs(pairs, PLAIN, gt_reading=Reading(1), error_maps=pred)
    assert (pred / "a.prediction.png").read_bytes() == before
    other = tmp_path / "maps"
    for _ in range(2):
        evaluate_pairs(pairs, PLAIN, gt_reading=Reading(1), error_maps=other)
    (other / "a.prediction.png").write_bytes(b"theirs")
    with pytest.raises(OutputError, match="not written by prv2"):
        evaluate_pairs(pairs, PLAIN, gt_reading=Reading(1), error_maps=other)
    assert (other / "a.prediction.png").read_bytes() == b"theirs"


def test_maps_of_others_are_read_as_our_own_where_they_are_aligned(tmp_path: Path) -> None:
    """0 and less of a relative map are values, the farthest or the nearest, whoever wrote it."""
    (tmp_path / "p").mkdir()
    truth = slope()
    inverse = (1 / truth - 1 / truth.max()).astype(np.float32)  # 0 where it is farthest
    np.save(tmp_path / "p/a.npy", inverse)
    pairs, _ = find_pairs(tmp_path / "p", files(tmp_path / "t", a=truth))
    how = Measuring(boundaries=False, align="scale-shift", align_space="disparity")
    found = evaluate_pairs(pairs, how, pred_reading=Reading(kind="inverse"))
    assert found.means()["prediction"]["abs_rel"] < 1e-2
    assert found.means()["prediction"].get("missing", 0) == 0


def test_aligned_depth_keeps_its_foreground_beside_a_far_background(tmp_path: Path) -> None:
    """A sky of 10 km is no reason to take all that is nearer than 10 m for 10 m."""
    truth = slope()
    far = truth.copy()
    far[0] = 1e4
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p/a.npy", far)
    write_depth(tmp_path / "p/b.npy", far, DepthMetadata(), dtype="float32")
    truth[0] = np.nan
    pairs, _ = find_pairs(tmp_path / "p", files(tmp_path / "t", a=truth, b=truth))
    assert len(pairs) == 2
    how = Measuring(boundaries=False, align="scale")
    for found in evaluate_pairs(pairs, how).images:
        assert found.figures["prediction"]["abs_rel"] < 1e-2


def test_0_in_integers_of_depth_by_others_is_no_depth_where_they_are_aligned(tmp_path: Path) -> None:
    truth = slope()
    numbers = np.rint(truth * 1000).astype(np.uint16)
    numbers[: len(numbers) * 2 // 3] = 0
    (tmp_path / "p").mkdir()
    Image.fromarray(numbers).save(tmp_path / "p/a.png")
    pairs, _ = find_pairs(tmp_path / "p", files(tmp_path / "t", a=truth))
    found = evaluate_pairs(pairs, Measuring(boundaries=False, align="scale")).means()["prediction"]
    assert found["missing"] > 0.6
    assert found["abs_rel"] == pytest.approx(found["missing"], abs=1e-2)  # what is missing counts as 1


@pytest.mark.parametrize("constant", [-0.2, -5.0, -1000.0])
@pytest.mark.parametrize("kind", ["inverse", "depth"])
def test_what_reaches_below_0_is_fitted_as_it_is(kind: Any, constant: float, tmp_path: Path) -> None:
    """The fit of a scale and a shift finds any offset, whoever wrote the map."""
    truth = slope()
    own = 1 / truth.astype(float) if kind == "inverse" else truth.astype(float)
    moved = own + constant
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p/a.npy", moved)
    unit = "1/relative" if kind == "inverse" else "relative"
    about = DepthMetadata(unit=unit, kind=kind)
    write_depth(tmp_path / "p/b.npy", moved, about, inverse=kind == "inverse", signed=True)
    pairs, _ = find_pairs(tmp_path / "p", files(tmp_path / "t", a=truth, b=truth))
    space: Any = "disparity" if kind == "inverse" else "depth"
    how = Measuring(boundaries=False, align="scale-shift", align_space=space)
    found = evaluate_pairs(pairs, how, pred_reading=Reading(kind=kind))
    assert len(found.images) == 2
    for image in found.images:
        assert image.figures["prediction"]["abs_rel"] < (1e-3 if constant == -1000 else 1e-5)
        assert image.fits["prediction"] == pytest.approx((1, -constant), rel=1e-3)


def test_a_shift_is_found_beside_numbers_far_apart(tmp_path: Path) -> None:
    """One pixel that nobody measured takes no digits from the others."""
    truth = slope()
    moved = 1 / truth - 0.2
    moved[0, :2] = 3e4, -3e4
    truth[0, :2] = np.nan
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p/a.npy", moved)
    pairs, _ = find_pairs(tmp_path / "p", files(tmp_path / "t", a=truth))
    how = Measuring(boundaries=False, align="scale-shift", align_space="disparity")
    found = evaluate_pairs(pairs, how, pred_reading=Reading(kind="inverse"))
    assert found.means()["prediction"]["abs_rel"] < 1e-5
