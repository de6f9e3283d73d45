"""Evaluation: figures with closed forms, what is left out, pairs of files, and the whole pipeline."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from prv2cli.cli.evaluate import evaluate
from prv2cli.datasets.samples import Sample, bilinear
from prv2cli.depth_files.metadata import DepthMetadata
from prv2cli.depth_files.preview import INVALID_COLOUR
from prv2cli.depth_files.read import write_depth
from prv2cli.errors import ConfigError, InputError, MissingExtraError, Prv2Error, UsageError
from prv2cli.evaluation.alignment import Aligned, align
from prv2cli.evaluation.config import Measuring, load_eval_config
from prv2cli.evaluation.error_maps import ERROR_LIMIT, error_picture
from prv2cli.evaluation.measure import measure, with_boundaries
from prv2cli.evaluation.of_files import Reading, evaluate_pairs, find_pairs
from prv2cli.evaluation.of_model import evaluate_model, tile_consistency
from prv2cli.evaluation.report import METRICS

PLAIN = Measuring(boundaries=False)
HEIGHT, WIDTH = 24, 32


def stairs() -> np.ndarray:
    """(H, W) metres: a 4 m wall with a box at 2 m before it."""
    depth = np.full((HEIGHT, WIDTH), 4, np.float32)
    depth[8:16, 10:20] = 2
    return depth


def slope() -> np.ndarray:
    return np.linspace(1, 20, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)


# --- one image ------------------------------------------------------------------------------------------------


def test_the_truth_itself_is_perfect() -> None:
    pytest.importorskip("skimage")
    truth = stairs()
    figures = measure(truth, truth, Measuring(boundaries=True)).figures
    assert set(figures) == set(METRICS) - {"seam", "consistency_error"}
    for name, value in figures.items():
        assert value == pytest.approx(1 if METRICS[name].better == 1 else 0, abs=1e-6), name


def test_a_tenth_too_far_has_the_figures_of_a_tenth() -> None:
    truth = slope()
    truth[0, :5] = np.nan
    known = truth[~np.isnan(truth)].astype(float)
    figures = measure(1.1 * truth.clip(1) + 0 * truth, truth, PLAIN).figures
    expected = {
        "delta1": 1,
        "abs_rel": 0.1,
        "sq_rel": 0.01 * known.mean(),
        "rmse": 0.1 * np.sqrt((known**2).mean()),
        "rmse_log": math.log(1.1),
        "log10": math.log10(1.1),
        "silog": 0,
        "missing": 0,
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-5), name


def test_crop_and_cap_decide_what_counts() -> None:
    truth = np.full((100, 100), 5, np.float32)
    pred = truth.copy()
    pred[:40] = 50  # above Garg's crop
    assert measure(pred, truth, Measuring(boundaries=False, crop="garg")).figures["abs_rel"] == 0
    assert measure(pred, truth, PLAIN).figures["abs_rel"] == pytest.approx(0.4 * 9)
    capped = Measuring(boundaries=False, cap=(1e-3, 10.0))
    assert measure(pred, truth, capped).figures["abs_rel"] == pytest.approx(0.4 * 1)  # 50 is clipped to 10
    truth[50:] = 12
    assert measure(pred, truth, capped).figures["delta1"] == pytest.approx(
        0.2
    )  # only rows 40..49 of 0..49 are right
    with pytest.raises(InputError, match=r"within the crop \(none\) and 20 to 30 m"):
        measure(pred, truth, Measuring(boundaries=False, cap=(20.0, 30.0)))
    with pytest.raises(InputError, match="480 x 640"):
        measure(pred, truth, Measuring(boundaries=False, crop="eigen-nyu"))


def test_a_pixel_without_prediction_counts_as_the_smallest_depth_and_is_told() -> None:
    truth = np.full((10, 10), 4, np.float32)
    pred = truth.copy()
    pred[:3] = np.nan
    figures = measure(pred, truth, Measuring(boundaries=False, cap=(1.0, 80.0))).figures
    assert figures["missing"] == pytest.approx(0.3)
    assert figures["abs_rel"] == pytest.approx(0.3 * 3 / 4)


def test_edges_of_see_come_from_the_disparity_where_there_is_one() -> None:
    truth = stairs()
    blurred = truth.copy()
    blurred[8:16, 9] = 3  # a pixel between the two surfaces
    assert measure(blurred, truth, PLAIN).figures["see"] > 0
    no_edges = np.full_like(truth, 7)
    assert math.isnan(measure(blurred, truth, PLAIN, no_edges).figures["see"])
    exact = Measuring(boundaries=False, exact=True)
    assert measure(blurred, truth, exact, no_edges).figures["see"] == 0


def test_holes_have_no_edges_unless_exact() -> None:
    truth = np.full((40, 40), 5, np.float32)
    truth[10:20, 10:20] = np.nan
    pred = np.full((40, 40), 5.5, np.float32)
    assert math.isnan(measure(pred, truth, PLAIN).figures["see"])
    assert measure(pred, truth, Measuring(boundaries=False, exact=True)).figures["see"] == pytest.approx(0.5)
    pytest.importorskip("skimage")
    figures = measure(pred, truth, Measuring(boundaries=True)).figures
    assert math.isnan(figures["edge_f1"])
    assert measure(pred, truth, Measuring(boundaries=True, exact=True)).figures["edge_recall"] == 0


def test_boundaries_see_a_shifted_box() -> None:
    pytest.importorskip("skimage")
    truth = np.full((60, 80), 4, np.float32)
    truth[20:40, 20:50] = 2
    pred = np.roll(truth, 1, axis=1)
    figures = measure(pred, truth, Measuring(boundaries=True)).figures
    assert 0 < figures["edge_accuracy"] < 1
    assert 0.5 < figures["edge_f1"] < 1
    assert figures["edge_agreement"] == pytest.approx(1 - figures["edge_hamming"])


# --- alignment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "space", "pred", "fit"),
    [
        ("scale", "depth", lambda t: t / 3, (3, 0)),
        ("scale", "disparity", lambda t: t / 3, (1 / 3, 0)),
        ("scale-shift", "depth", lambda t: (t + 5) / 2, (2, -5)),
        ("scale-shift", "disparity", lambda t: 1 / ((1 / t + 0.2) / 4), (4, -0.2)),
    ],
)
def test_alignment_undoes_what_it_should(how: Any, space: Any, pred: Any, fit: tuple[float, float]) -> None:
    truth = slope()
    mask = truth > 0
    wrong = pred(truth.astype(float)).astype(np.float32)
    found = align(wrong, truth, mask, how, space)
    assert (found.scale, found.shift) == pytest.approx(fit, rel=1e-3)
    np.testing.assert_allclose(found.values, truth, rtol=1e-3)
    mask[:12] = False  # where it is fitted must not matter here, and what lies outside is aligned too
    wrong[0, 0] = np.nan
    again = align(wrong, truth, mask, how, space)
    np.testing.assert_allclose(again.values.ravel()[1:], truth.ravel()[1:], rtol=1e-3)
    assert np.isnan(again.values[0, 0])


def test_least_squares_is_the_best_fit() -> None:
    rng = np.random.default_rng(3)
    truth = slope()
    pred = (truth * 0.3 + 2 + rng.normal(0, 0.2, truth.shape)).astype(np.float32)
    fit = align(pred, truth, truth > 0, "scale-shift")
    matrix = np.stack([pred.ravel(), np.ones(pred.size)], axis=1).astype(float)
    expected = np.linalg.lstsq(matrix, truth.ravel().astype(float), rcond=None)[0]
    assert (fit.scale, fit.shift) == pytest.approx(tuple(expected), rel=1e-6)


def test_the_median_does_not_mind_outliers_and_nothing_is_an_error() -> None:
    truth = np.full((9, 9), 6, np.float32)
    pred = np.full((9, 9), 2, np.float32)
    pred[:3] = 1000
    assert align(pred, truth, truth > 0, "scale").scale == 3
    assert align(pred, truth, truth > 0, "none").scale == 1
    with pytest.raises(InputError, match="flat or empty"):
        align(truth, truth, truth > 0, "scale-shift")
    with pytest.raises(InputError, match="nothing to align on"):
        align(-pred, truth, truth > 0, "scale")


def test_what_lands_behind_infinity_is_at_the_cap() -> None:
    truth, pred = slope(), slope()
    pred[0, 0] = 1e6  # not in the mask; its disparity falls below zero
    mask = truth > 1
    pred_of_truth = 1 / (1 / pred + 0.05)
    fitted = align(pred_of_truth, truth, mask, "scale-shift", "disparity", 80.0)
    assert fitted.shift == pytest.approx(-0.05, rel=1e-3)
    assert fitted.values[0, 0] == pytest.approx(80)


# --- the pipeline ---------------------------------------------------------------------------------------------


class StandIn:
    """A refiner that knows the truth by the photograph's blue: coarse is 20 % too far and half the size."""

    bundle = None

    def __init__(self, truths: dict[int, np.ndarray], error: float = 0.1, unit: str = "metre") -> None:
        self.truths, self.error, self.unit = truths, error, unit
        self.calls: list[dict[str, Any]] = []

    def refine(self, rgb: np.ndarray, **options: Any) -> Any:
        self.calls.append(options)
        key = int(rgb[0, 0, 2])
        if key not in self.truths:
            raise InputError("this photograph cannot be refined")
        truth = self.truths[key]
        return SimpleNamespace(
            depth=truth * (1 + self.error), coarse=truth[::2, ::2] * 1.2, seam=0.25 * key, unit=self.unit
        )


class Listed:
    """Samples in memory; an exception stands for a broken one."""

    def __init__(self, items: dict[str, Sample | Exception]) -> None:
        self.names, self._items = tuple(items), list(items.values())

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        item = self._items[index]
        if isinstance(item, Exception):
            raise item
        return item


def sample(name: str, key: int, truth: np.ndarray) -> Sample:
    return Sample(name, np.full((*truth.shape, 3), key, np.uint8), truth, None, 500.0)


def test_a_model_and_its_coarse_map_beside_it(tmp_path: Path) -> None:
    flat, other = np.full((HEIGHT, WIDTH), 4, np.float32), np.full((HEIGHT, WIDTH), 8, np.float32)
    data = Listed(
        {
            "a": sample("a", 1, flat),
            "b": InputError("b.png: damaged"),
            "c": sample("c", 9, flat),
            "d": sample("d", 2, other),
        }
    )
    told: list[str] = []
    steps: list[tuple[int, int]] = []
    refiner = StandIn({1: flat, 2: other})
    report = evaluate_model(
        refiner,
        data,
        PLAIN,
        tiling={"mode": "m1"},
        error_maps=tmp_path / "maps",
        tell=told.append,
        progress=lambda *step: steps.append(step),
    )
    means = report.means()
    assert list(means) == ["coarse", "refined"]
    assert means["refined"]["abs_rel"] == pytest.approx(0.1, rel=1e-5)
    assert means["coarse"]["abs_rel"] == pytest.approx(0.2, rel=1e-5)
    # The mean of the images' figures, not the figure of all pixels, which would be sqrt((0.4^2 + 0.8^2) / 2).
    assert means["refined"]["rmse"] == pytest.approx((0.4 + 0.8) / 2, rel=1e-5)
    assert means["refined"]["seam"] == pytest.approx((0.25 + 0.5) / 2)
    assert "seam" not in means["coarse"]
    assert [line.split(" is left out: ") for line in told] == [
        ["b", "b.png: damaged"],
        ["c", "this photograph cannot be refined"],
    ]
    assert list(report.broken) == ["b", "c"]
    assert (steps[0], steps[-1]) == ((0, 4), (4, 4))
    assert all(call == {"mode": "m1", "focal_px": 500.0} for call in refiner.calls)
    found = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert found == ["a.coarse.png", "a.refined.png", "d.coarse.png", "d.refined.png"]


def test_images_without_edges_are_left_out_of_that_mean_only() -> None:
    flat, edged = np.full((HEIGHT, WIDTH), 4, np.float32), stairs()
    data = Listed({"a": sample("a", 1, flat), "b": sample("b", 2, edged)})
    report = evaluate_model(StandIn({1: flat, 2: edged}), data, PLAIN)
    one = report.images[1].figures["refined"]["see"]
    # 32 pixels of the box's rim at 2 m and 36 of the wall around it at 4 m, each 10 % too far.
    assert one == pytest.approx(0.1 * (32 * 2 + 36 * 4) / 68, rel=1e-5)
    assert report.means()["refined"]["see"] == one
    told = json.loads(json.dumps(report.to_json(per_image=True), allow_nan=False))
    at_edges = ("see", "depth_pro_f1", "boundary_f1", "edge_abs_rel", "relative_see", "flying_pixels")
    assert told["measured"]["refined"] == dict.fromkeys(at_edges, 1)
    assert told["per_image"][0]["figures"]["refined"]["see"] is None
    assert told["images"] == 2


def test_what_a_model_cannot_be_measured_on(tmp_path: Path) -> None:
    truth = slope()
    relative = StandIn({1: truth}, unit="relative")
    data = Listed({"a": sample("a", 1, truth)})
    with pytest.raises(UsageError, match=r"no physical unit.*--align scale-shift"):
        evaluate_model(relative, data, PLAIN)
    aligned = evaluate_model(relative, data, Measuring(boundaries=False, align="scale-shift"))
    assert aligned.means()["refined"]["abs_rel"] < 1e-5
    assert aligned.images[0].fits["refined"] == pytest.approx((1 / 1.1, 0), abs=1e-4)
    with pytest.raises(InputError, match="nothing could be measured; the first reason: gone"):
        evaluate_model(relative, Listed({"a": InputError("gone")}), PLAIN, tell=lambda line: None)
    relative.bundle = SimpleNamespace()  # type: ignore[assignment]
    with pytest.raises(UsageError, match="consistency: a bundle"):
        evaluate_model(relative, data, PLAIN, consistency=True)


class Counting:
    """Every call answers a map that is one metre farther than the last."""

    bundle = None

    def __init__(self) -> None:
        self.coarse: list[np.ndarray] = []

    def refine(self, rgb: np.ndarray, **options: Any) -> Any:
        self.coarse.append(options["coarse_depth"])
        return SimpleNamespace(depth=np.full(rgb.shape[:2], float(len(self.coarse)), np.float32))


def test_tile_consistency_of_a_known_disagreement() -> None:
    refiner = Counting()
    coarse = np.arange(40 * 80, dtype=np.float32).reshape(40, 80) + 1
    error = tile_consistency(refiner, np.zeros((40, 80, 3), np.uint8), coarse)
    # 7 x 7 tiles of 10 x 20: 1 m between neighbours in a row, 7 m in a column, over equally many pixels.
    assert len(refiner.coarse) == 49
    assert error == pytest.approx((1 + 7) / 2)
    np.testing.assert_array_equal(refiner.coarse[8], coarse[5:15, 10:30])

    class Faithful(Counting):
        def refine(self, rgb: np.ndarray, **options: Any) -> Any:
            return SimpleNamespace(depth=options["coarse_depth"])

    assert tile_consistency(Faithful(), np.zeros((40, 80, 3), np.uint8), coarse) == 0
    # Where the depth was aligned, so are the tiles, or the figure would not be metres.
    halved = Aligned(coarse, 0.5, 3.0)
    blank = np.zeros((40, 80, 3), np.uint8)
    assert tile_consistency(Counting(), blank, coarse, "relative", halved) == pytest.approx(2)
    inverse = Aligned(coarse, 2.0, 0.0, "disparity", 80.0)
    assert tile_consistency(Counting(), blank, coarse, "relative", inverse) == pytest.approx(2)
    with pytest.raises(InputError, match="7 x 7 is too small"):
        tile_consistency(refiner, np.zeros((7, 7, 3), np.uint8), np.ones((7, 7)))


def test_the_tiles_of_relative_depth_are_aligned_as_their_photograph() -> None:
    truth = np.linspace(1, 20, 40 * 80, dtype=np.float32).reshape(40, 80)

    class Relative(Counting):
        def refine(self, rgb: np.ndarray, **options: Any) -> Any:
            if "coarse_depth" in options:
                return super().refine(rgb, **options)
            return SimpleNamespace(depth=truth / 3, coarse=truth / 3, seam=0.0, unit="relative")

    data = Listed({"a": sample("a", 1, truth)})
    report = evaluate_model(Relative(), data, Measuring(boundaries=False, align="scale"), consistency=True)
    assert report.means()["refined"]["consistency_error"] == pytest.approx(3 * (1 + 7) / 2)


def test_the_shipped_model_end_to_end(refiner: Any, photograph: np.ndarray) -> None:
    rgb = photograph[:96, :128]
    y, x = np.mgrid[:96, :128]
    truth = (2 + y / 40 + (x > 60)).astype(np.float32)
    data = Listed({"a": Sample("a", rgb, truth)})
    report = evaluate_model(refiner, data, PLAIN, consistency=True)
    estimate = refiner.refine(rgb)
    refined, coarse = (report.images[0].figures[row] for row in ("refined", "coarse"))
    assert refined["abs_rel"] == pytest.approx(
        float(np.mean(np.abs(estimate.depth - truth) / truth)), rel=1e-4
    )
    brought = bilinear(estimate.coarse, truth.shape)
    assert coarse["abs_rel"] == pytest.approx(float(np.mean(np.abs(brought - truth) / truth)), rel=1e-4)
    assert refined["seam"] == estimate.seam
    assert 0 < refined["consistency_error"] < float(estimate.depth.mean())


def test_boundaries_without_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    how, notes = with_boundaries(Measuring())
    assert how.boundaries is False
    assert "prv2cli[train]" in notes[0]
    with pytest.raises(MissingExtraError):
        with_boundaries(Measuring(boundaries=True))
    assert with_boundaries(Measuring(boundaries=False))[1] == []


# --- configuration --------------------------------------------------------------------------------------------


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_the_usual_measure_of_a_data_set_unless_said_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path / "e.yaml", "data: {layout: kitti, root: /data}\nmeasure: {cap: [1, 50]}\n")
    config = load_eval_config(path, {"measure.align": "scale", "limit": 5})
    assert (config.measure.crop, config.measure.cap) == ("garg", (1, 50))
    assert (config.measure.align, config.limit) == ("scale", 5)
    plain = write(tmp_path / "c.yaml", "data: {layout: cityscapes, root: /data}\n")
    assert load_eval_config(plain).measure.cap == (1e-3, 250)
    assert load_eval_config(plain, {"measure.crop": "garg"}).measure.crop == "garg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "data: {layout: kitti, root: x}\nmodle: y",
            r"e\.yaml: modle: no such setting; did you mean mode or model\?",
        ),
        ("data: {layout: kitti, root: x, splt: y}", r"e\.yaml: data\.splt: .*did you mean split\?"),
        ("data: {layout: kity, root: x}", r"e\.yaml: data: .*'kity'"),
        (
            "data: {layout: kitti, root: x}\nmeasure: {cap: [5, 1]}",
            r"e\.yaml: measure\.cap: expected two depths.*got \[5",
        ),
        ("data: {layout: kitti, root: x}\nmeasure: {crop: grg}", r"e\.yaml: measure\.crop: .*'garg'"),
        ("data: {layout: procedural, scenes: 0}", r"e\.yaml: data\.scenes: .*greater than 0"),
        ("data: {layout: kitti, root: x}\nmeasure: 3", r"e\.yaml: measure: "),
        ("model: x", r"e\.yaml: data: Field required"),
        ("[1", r"--config .*e\.yaml: not a readable YAML"),
        ("just words", r"--config .*e\.yaml: expected settings"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path / "e.yaml", content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_eval_config(path)
    assert "\n" not in str(caught.value)


def test_a_missing_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_eval_config(tmp_path / "none.yaml")


# --- pairs of files -------------------------------------------------------------------------------------------


def files(folder: Path, **maps: np.ndarray) -> Path:
    """prv2 depth files; a double underscore in a name is a folder."""
    for name, values in maps.items():
        path = folder / f"{name.replace('__', '/')}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_depth(path, values, DepthMetadata())
    return folder


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


# --- error maps -----------------------------------------------------------------------------------------------


def test_an_error_map_is_dark_where_right_and_the_same_scale_in_every_picture() -> None:
    truth = np.full((80, 100), 4, np.float32)
    pred = truth.copy()
    pred[:, 50:] = 4 * (1 + ERROR_LIMIT / 2)
    mask = np.ones_like(truth, bool)
    mask[:10] = False
    mild = error_picture(pred, truth, mask)
    assert mild.shape == (80 + 2 + 8, 100, 3)
    assert np.all(mild[:10] == INVALID_COLOUR)
    dark, medium = mild[40, 10].astype(int), mild[40, 90].astype(int)
    pred[:, 50:] = 40
    bright = error_picture(pred, truth, mask)[40, 90].astype(int)
    assert dark.sum() < medium.sum() < bright.sum()
    np.testing.assert_array_equal(error_picture(pred, truth, mask)[40, 10], dark)
    np.testing.assert_array_equal(mild[-1, 0], dark)  # the legend ends in both colours
    np.testing.assert_array_equal(mild[-1, -1], bright)


# --- the command ----------------------------------------------------------------------------------------------


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


def test_measuring_files_needs_no_torch(tmp_path: Path) -> None:
    pred, truth = files(tmp_path / "p", a=slope()), files(tmp_path / "t", a=slope())
    code = (
        "import sys, typer; from prv2cli.cli.evaluate import evaluate; app = typer.Typer(); app.command()(evaluate);"
        f"app(['--pred', {str(pred)!r}, '--gt', {str(truth)!r}, '--json'], standalone_mode=False);"
        "print({'torch', 'timm'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip().splitlines()[-1:] == ["set()"], done.stderr
    assert json.loads(done.stdout)["images"] == 1
    assert importlib.util.find_spec("torch")  # it is installed, and was not loaded
