"""Depth metrics against closed forms (steps, ramps, shifts and scales) and against values of the authors' code."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from golden_rules import Golden, _generator, normal, uniform
from torch.nn import functional as F

from prv2cli.errors import MissingExtraError
from prv2cli.evaluation.boundary_f1 import boundary_f1, depth_pro_f1
from prv2cli.evaluation.edge_metrics import (
    _soft_errors,
    edge_abs_rel,
    edge_map_metrics,
    flying_pixels,
    paper_soft_edge_error,
    soft_edge_error,
)
from prv2cli.evaluation.edges import canny_edges, depth_edges, disparity_edges, distance_to, edge_band
from prv2cli.evaluation.metrics import (
    Crop,
    abs_rel,
    clip_depth,
    consistency_error,
    delta,
    evaluated_pixels,
    log10,
    paper_metrics,
    rmse,
    rmse_log,
    silog,
    sq_rel,
)

NEAR, FAR = 2.0, 2.4  # a step of 20 %: an edge at every threshold of boundary_f1
SHAPE = (32, 48)
ALL = np.ones(SHAPE, dtype=bool)


def step(column: int = 24, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Near on the left, far from `column` on."""
    depth = np.full(shape, NEAR)
    depth[:, column:] = FAR
    return depth


def ramp(first: int, last: int) -> np.ndarray:
    """Near up to column `first`, far from column `last` on, a straight line between."""
    return np.tile(np.interp(np.arange(SHAPE[1]), [first, last], [NEAR, FAR]), (SHAPE[0], 1))


def test_abs_rel_of_a_scaled_map() -> None:
    assert abs_rel(1.1 * step(), step(), ALL) == pytest.approx(0.1)


def test_rmse_silog_and_delta_closed_forms() -> None:
    truth = step()
    assert rmse(truth + 0.25, truth, ALL) == pytest.approx(0.25)
    assert silog(3 * truth, truth, ALL) == pytest.approx(0, abs=1e-12)
    assert delta(1.3 * truth, truth, ALL) == 0
    assert delta(1.3 * truth, truth, ALL, power=2) == 1


def test_unmeasured_pixels_never_count() -> None:
    truth, pred, mask = step(), step(), ALL.copy()
    mask[4:20, 15:33] = False
    truth[~mask], pred[~mask] = 0, 77
    assert abs_rel(pred, truth, mask) == 0
    assert edge_abs_rel(pred, truth, mask) == 0
    assert soft_edge_error(pred, truth, mask) == 0
    assert boundary_f1(pred, truth, mask) == 1
    assert flying_pixels(pred, truth, mask) == 0
    assert not depth_edges(truth, mask)[~mask].any()


def test_nothing_measured_is_nan_and_no_warning() -> None:
    for metric in (abs_rel, edge_abs_rel, soft_edge_error, boundary_f1):
        assert np.isnan(metric(step(), np.zeros(SHAPE), np.zeros(SHAPE, dtype=bool)))


def test_a_map_without_edges_has_no_edge_metrics() -> None:
    flat = np.full(SHAPE, NEAR)
    for metric in (edge_abs_rel, soft_edge_error, boundary_f1, flying_pixels):
        assert np.isnan(metric(step(), flat, ALL))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_tiny_maps(shape: tuple[int, int]) -> None:
    truth, mask = step(shape[1] // 2, shape), np.ones(shape, dtype=bool)
    assert abs_rel(truth, truth, mask) == 0
    assert boundary_f1(truth, truth, mask) == 1 or not depth_edges(truth, mask).any()


def test_depth_edges_are_both_sides_of_the_step_and_the_band_is_symmetric() -> None:
    edges = depth_edges(step(24), ALL)
    assert edges.any(axis=0).nonzero()[0].tolist() == [23, 24]
    assert edge_band(edges, 4).all(axis=0).nonzero()[0].tolist() == list(range(19, 29))
    assert not depth_edges(step(24), ALL, jump=0.21).any()


def test_edge_abs_rel_sees_only_the_band() -> None:
    truth, pred = step(24), step(24)
    pred[:, 40:] = 99
    assert edge_abs_rel(pred, truth, ALL) == 0
    assert edge_abs_rel(1.1 * truth, truth, ALL) == pytest.approx(0.1)


def test_soft_edge_error_forgives_one_pixel_but_no_slope() -> None:
    assert soft_edge_error(step(25), step(24), ALL) == 0
    assert soft_edge_error(ramp(20, 28), step(24), ALL) > 0.01
    half = np.full(SHAPE, (NEAR + FAR) / 2)  # 0.2 m from either surface, at near and at far edge pixels
    expected = (0.2 / NEAR + 0.2 / FAR) / 2
    assert soft_edge_error(half, step(24), ALL) == pytest.approx(expected)


def test_boundary_f1_is_one_for_the_truth_at_any_scale() -> None:
    truth = step() * np.where(np.arange(SHAPE[0]) < 11, 1.0, 1.3)[:, None]
    for scale in (1, 0.01, 7):
        assert boundary_f1(scale * truth, truth, ALL) == pytest.approx(1)
    blurred = 0.5 * (truth + np.roll(truth, 1, axis=1))
    assert boundary_f1(7 * blurred, truth, ALL) == pytest.approx(boundary_f1(blurred, truth, ALL))


def test_boundary_f1_tolerance() -> None:
    assert boundary_f1(step(25), step(24), ALL, tolerance=0) == 0
    assert boundary_f1(step(25), step(24), ALL, tolerance=1) == pytest.approx(1)
    assert boundary_f1(step(26), step(24), ALL, tolerance=1) == 0


def test_boundary_f1_direction_matters() -> None:
    inverted = NEAR + FAR - step()
    assert boundary_f1(inverted, step(), ALL) == 0


def test_boundary_f1_counts_false_edges_and_missing_ones() -> None:
    two_steps = step(24)
    two_steps[:, 36:] *= FAR / NEAR
    precision_half = boundary_f1(two_steps, step(24), ALL)
    recall_half = boundary_f1(step(24), two_steps, ALL)
    assert precision_half == pytest.approx(2 / 3)
    assert recall_half == pytest.approx(2 / 3)


def test_boundary_f1_weighs_thresholds_by_their_value() -> None:
    weak = step() ** (np.log(1.1) / np.log(FAR / NEAR))  # a step of 10 %: found at thresholds below 1.1 only
    levels = np.linspace(1.02, 1.15, 10)
    expected = levels[levels < 1.1].sum() / levels.sum()
    assert boundary_f1(weak, step(), ALL) == pytest.approx(expected)
    assert boundary_f1(weak, weak, ALL) == pytest.approx(1)  # thresholds without true edges do not exist


def test_boundary_f1_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    truth = 2 + 0.2 * rng.random((13, 17))
    pred = truth * (1 + 0.04 * rng.standard_normal(truth.shape))
    mask = np.ones(truth.shape, dtype=bool)
    assert boundary_f1(pred, truth, mask) == pytest.approx(_slow_f1(pred, truth))


def test_boundary_f1_does_not_blame_edges_whose_match_may_be_in_a_hole() -> None:
    mask = ALL.copy()
    mask[16:, 24:27] = False  # the true edge of the lower half lies here, unmeasured
    beside, far_away = step(24), step(24)
    beside[16:] = step(23)[16:]
    far_away[16:] = step(20)[16:]
    assert boundary_f1(beside, step(24), mask) == pytest.approx(1)
    assert boundary_f1(far_away, step(24), mask) < 0.9


def test_flying_pixels_hang_on_ramps_not_on_steps() -> None:
    truth = step(24)
    assert flying_pixels(truth, truth, ALL) == 0
    assert flying_pixels(step(26), truth, ALL) == 0
    in_the_middle = ((ramp(19, 28) - NEAR) / (FAR - NEAR))[0, 20:28]  # the 8 px whose window spans the step
    expected = np.mean(np.abs(in_the_middle - 0.5) < 1 / 6)
    assert flying_pixels(ramp(19, 28), truth, ALL) == pytest.approx(expected)
    assert 0.2 < expected < 0.6


# --- the authors' values --------------------------------------------------------------------------------------

SIZE = (96, 128)
MIN_DEPTH, MAX_DEPTH = 1e-3, 15.0
VALUE = 1e-5  # relative: float32 sums in another order
NAMES = {  # the authors' -> ours
    **{f"a{n}": f"delta{n}" for n in (1, 2, 3)},
    **{name: name for name in ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog")},
    "log_10": "log10",
}
EDGE_NAMES = {
    "EdgeAcc": "accuracy",
    "EdgeComp": "completeness",
    "f1_score": "f1",
    "acc": "agreement",
    **{name: name for name in ("precision", "recall", "hamming")},
}


def scene(tag: str, seed: int, shape: tuple[int, int], noise: float = 0.02) -> np.ndarray:
    """The reference scenes: a ramp of 1..20 m with six boxes in front, then noise. float32 metres."""
    dice, (height, width) = _generator(f"{tag}|{seed}"), shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    depth = 1 + 19 * (0.5 + 0.3 * (1 - y / height) + 0.1 * x / width)
    for _ in range(6):
        top, left = int(dice.integers(0, height - height // 4)), int(dice.integers(0, width - width // 4))
        box = int(dice.integers(height // 8, height // 2)), int(dice.integers(width // 8, width // 2))
        part = (slice(top, top + box[0]), slice(left, left + box[1]))
        depth[part] = 1 + 19 * dice.random() + 0.01 * (x[part] - left)
    depth *= 1 + noise * dice.standard_normal(shape)
    return np.clip(depth, 0.05, None).astype(np.float32)


class Case:
    """A truth, a prediction 8 % off, and the edges of the truth's disparity."""

    def __init__(self, golden: Golden) -> None:
        self.golden, self.values = golden, golden.meta["values"]
        self.truth = scene("scene", golden.seed, SIZE)
        error = 1 + 0.08 * normal("perr", golden.seed, SIZE).numpy()
        self.pred = (self.truth * error).clip(0.05).astype(np.float32)
        self.edges = disparity_edges(1.0 / self.truth * 40)
        self.exact_scene, self.noisy_scene = (
            scene("escene", golden.seed, SIZE, noise) for noise in (0.0, 0.03)
        )

    def scores(self, pred: np.ndarray, crop: Crop | None) -> dict[str, float]:
        """As published: range, crop, clipping, and SEE at disparity edges."""
        mask = evaluated_pixels(self.truth, MIN_DEPTH, MAX_DEPTH, crop)
        pred = clip_depth(pred, MIN_DEPTH, MAX_DEPTH)
        see = paper_soft_edge_error(pred, self.truth, mask, self.edges, exact=True)
        return {**paper_metrics(pred, self.truth, mask), "see": see}


@pytest.fixture(params=[2, 4], ids=["seed2", "seed4"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(Golden.load(f"losses_s{request.param}"))


def reference(case: Case, name: str, names: dict[str, str]) -> Any:
    values = case.values[name]
    assert set(values) == set(names)
    return pytest.approx({names[key]: value for key, value in values.items()}, rel=VALUE)


@pytest.mark.parametrize(
    ("name", "dtype"), [("compute_errors", np.float64), ("compute_errors_f32", np.float32)]
)
def test_paper_metrics(case: Case, name: str, dtype: type) -> None:
    got = paper_metrics(case.pred.astype(dtype), case.truth.astype(dtype), np.ones(SIZE, dtype=bool))
    assert got == reference(case, name, NAMES)


@pytest.mark.parametrize(
    ("name", "crop"), [("nocrop", None), ("garg", "garg"), ("eigen_kitti", "eigen-kitti")]
)
def test_paper_metrics_in_a_range_and_a_crop(case: Case, name: str, crop: Crop | None) -> None:
    assert case.scores(case.pred, crop) == reference(case, f"compute_metrics_{name}", {**NAMES, "see": "see"})


def test_paper_metrics_of_a_small_prediction(case: Case) -> None:
    small = torch.from_numpy(scene("scene", case.golden.seed, (48, 64)))[None, None]
    pred = F.interpolate(small, SIZE, mode="bilinear", align_corners=False)[0, 0].numpy()
    assert case.scores(pred, None) == reference(case, "compute_metrics_lowres_pred", {**NAMES, "see": "see"})


@pytest.mark.parametrize("radius", [1, 2])
def test_soft_edge_error_pixel_by_pixel(case: Case, radius: int) -> None:
    everywhere = np.ones(SIZE, dtype=bool)
    errors = _soft_errors(case.pred, case.truth, case.truth > 0, everywhere, radius)
    assert case.golden.error(f"see_map_r{radius}", torch.from_numpy(errors.reshape(SIZE))) < VALUE
    mean = paper_soft_edge_error(case.pred, case.truth, everywhere, everywhere, radius)
    assert mean == pytest.approx(errors.mean())


@pytest.mark.parametrize("dilation", [0, 3, 10])
def test_disparity_edges(case: Case, dilation: int) -> None:
    got = disparity_edges(case.truth, dilation=dilation)
    assert np.array_equal(got, case.golden.arrays[f"boundaries_d{dilation}"].astype(bool))
    assert np.array_equal(case.edges, case.golden.arrays["boundaries_disp_d0"].astype(bool))


def test_canny_edges_are_exact(case: Case) -> None:
    pytest.importorskip("skimage")
    got = {
        "edges_gt_log": canny_edges(case.exact_scene),
        "edges_gt_inv": canny_edges(case.exact_scene, "inverse"),
        "edges_gt_none": canny_edges(case.exact_scene, "log1.5"),
        "edges_pred_log": canny_edges(case.noisy_scene),
        "edges_pred_log_sigma2": canny_edges(case.noisy_scene, sigma=2),
    }
    for name, edges in got.items():
        assert np.array_equal(edges, case.golden.arrays[name].astype(bool)), name


def test_edge_map_metrics(case: Case) -> None:
    pytest.importorskip("scipy")
    true_edges, pred_edges = (
        case.golden.arrays[name].astype(bool) for name in ("edges_gt_log", "edges_pred_log")
    )
    mask = (uniform("vmask", case.golden.seed, SIZE, 0, 1) > 0.15).numpy()
    mask[:6] = False
    got = edge_map_metrics(pred_edges, true_edges, mask, exact=True)
    assert got == reference(case, "boundary_metrics", EDGE_NAMES)
    got = edge_map_metrics(np.zeros_like(true_edges), true_edges, mask, exact=True)
    assert got == reference(case, "boundary_metrics_nopred", EDGE_NAMES)


# --- the papers' metrics by hand --------------------------------------------------------------------------------


def test_relative_and_logarithmic_errors_of_a_scaled_map() -> None:
    truth = step()
    assert sq_rel(1.5 * truth, truth, ALL) == pytest.approx(0.25 * truth.mean())
    assert rmse_log(np.e * truth, truth, ALL) == pytest.approx(1)
    assert log10(truth / 100, truth, ALL) == pytest.approx(2)


def test_evaluated_pixels() -> None:
    truth = np.full((100, 100), 5.0)
    truth[50, 50:54] = [0, 1, 10, 9.99]
    assert not evaluated_pixels(truth, 1, 10)[50, 50:53].any()
    assert evaluated_pixels(truth, 1, 10).sum() == 100 * 100 - 3
    rows, columns = np.nonzero(evaluated_pixels(truth, 1, 10, "garg"))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 98, 3, 95)
    rows, columns = np.nonzero(evaluated_pixels(np.full((480, 640), 5.0), 1, 10, "eigen-nyu"))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 470, 41, 600)
    with pytest.raises(ValueError, match="480 x 640"):
        evaluated_pixels(truth, 1, 10, "eigen-nyu")


def test_clip_depth_returns_a_copy_without_holes() -> None:
    pred = np.array([[np.nan, -np.inf, 0.2], [5, np.inf, 11]], dtype=np.float32)
    clipped = clip_depth(pred, 1, 10)
    assert clipped.tolist() == [[1, 1, 1], [5, 10, 10]] and clipped.dtype == np.float32
    assert np.isnan(pred[0, 0])


def test_paper_soft_edge_error_in_metres_and_without_edges() -> None:
    edges = depth_edges(step(24), ALL)
    half = np.full(SHAPE, NEAR + 0.1)
    assert paper_soft_edge_error(half, step(24), ALL, edges) == pytest.approx(0.1)
    assert paper_soft_edge_error(step(25), step(24), ALL, edges) == 0
    assert paper_soft_edge_error(step(26), step(24), ALL, edges, radius=2) == 0
    assert np.isnan(paper_soft_edge_error(half, step(), ALL, ~ALL))
    assert paper_soft_edge_error(half, step(), ALL, ~ALL, exact=True) == 0
    with_hole, mask = step(24), ALL.copy()
    with_hole[:, 23], mask[:, 23] = 0, False  # no depth: nothing may match it
    near_zero = np.full(SHAPE, 0.01)
    assert paper_soft_edge_error(near_zero, with_hole, mask, edges) == pytest.approx(FAR - 0.01)


def test_disparity_edges_by_hand() -> None:
    disparity = np.zeros((9, 12))
    disparity[:, 6:] = 1.5
    assert disparity_edges(disparity).any(axis=0).nonzero()[0].tolist() == [5, 6]
    assert not disparity_edges(disparity, threshold=1.5).any()
    assert disparity_edges(disparity, dilation=4).any(axis=0).nonzero()[0].tolist() == [4, 5, 6, 7, 8]


def line(column: int) -> np.ndarray:
    edges = np.zeros(SHAPE, dtype=bool)
    edges[:, column] = True
    return edges


def test_edge_map_metrics_of_a_displaced_line() -> None:
    pytest.importorskip("scipy")
    perfect = edge_map_metrics(line(20), line(20), ALL)
    assert perfect == {
        "accuracy": 0, "completeness": 0, "precision": 1, "recall": 1, "f1": 1, "hamming": 0, "agreement": 1,
    }  # fmt: skip
    moved = edge_map_metrics(line(23), line(20), ALL)  # five columns each, two in common
    assert (moved["accuracy"], moved["completeness"]) == (3, 3)
    assert (moved["precision"], moved["recall"], moved["f1"]) == pytest.approx((0.4, 0.4, 0.4))
    assert moved["hamming"] == pytest.approx(6 / 48) and moved["agreement"] == pytest.approx(42 / 48)


def test_boundary_distances_have_a_limit_and_the_authors_completeness_has_none() -> None:
    pytest.importorskip("scipy")
    pred, truth = line(20), line(20) | line(45)
    assert edge_map_metrics(pred, truth, ALL)["completeness"] == pytest.approx(10 / 2)
    assert edge_map_metrics(pred, truth, ALL, exact=True)["completeness"] == pytest.approx(25 / 2)
    assert edge_map_metrics(truth, pred, ALL)["accuracy"] == 0  # the other is too far to be its edge
    for exact in (False, True):
        far = edge_map_metrics(line(5), line(40), ALL, exact=exact)
        assert (far["accuracy"], far["completeness"]) == (10, 10)


def test_edge_map_metrics_without_true_edges_measure_nothing() -> None:
    pytest.importorskip("scipy")
    for exact in (False, True):
        scores = edge_map_metrics(line(5), line(40), ALL & ~line(40), exact=exact)
        assert {name for name, value in scores.items() if np.isnan(value)} == {
            "accuracy", "completeness", "precision", "recall", "f1",
        }  # fmt: skip
    assert all(np.isnan(value) for value in edge_map_metrics(line(5), line(5), ~ALL).values())


def test_distances_and_edges_of_nothing() -> None:
    assert np.isinf(distance_to(np.zeros((3, 4), dtype=bool))).all()
    pytest.importorskip("skimage")
    for space in ("log", "log1.5", "inverse"):
        for flat in (np.zeros((9, 9)), np.full((9, 9), 3.0)):
            assert not canny_edges(flat, space, sigma=1)[2:-2, 2:-2].any()


def test_without_scikit_image_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(MissingExtraError, match=r"prv2cli\[train\]"):
        edge_map_metrics(line(5), line(6), ALL)


def test_depth_pro_f1_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    truth = 2 + 0.5 * rng.random((13, 17))
    pred = truth * (1 + 0.05 * rng.standard_normal(truth.shape))
    levels = np.linspace(1.05, 1.25, 10)
    scores = []
    for t in levels:
        ours, theirs = _boundaries(pred, t), _boundaries(truth, t)
        recalls, precisions = [], []
        for direction in ("right+", "right-", "down+", "down-"):
            p, g = ({b for b in found if b[0] == direction} for found in (ours, theirs))
            recalls.append(len(p & g) / max(len(g), 1))
            precisions.append(len(p & g) / max(len(p), 1))
        r, p = np.mean(recalls), np.mean(precisions)
        scores.append(2 * r * p / (r + p) if r + p else 0.0)
    got = depth_pro_f1(pred, truth, np.ones(truth.shape, dtype=bool))
    assert got == pytest.approx(np.average(scores, weights=levels))
    assert 0.2 < got < 0.9


def test_depth_pro_f1_by_hand() -> None:
    levels = np.linspace(1.05, 1.25, 10)
    found = (
        levels[levels < FAR / NEAR].sum() / levels.sum()
    )  # one direction of four, at thresholds below the step
    assert depth_pro_f1(3 * step(), step(), ALL) == pytest.approx(found / 4)
    assert depth_pro_f1(step(25), step(24), ALL) == 0
    assert np.isnan(depth_pro_f1(step(), np.full(SHAPE, NEAR), ALL))
    mask = ALL.copy()
    mask[:, 24] = False  # the pair across the step is not measured
    assert np.isnan(depth_pro_f1(step(), step(), mask))


def test_consistency_error_of_tiles_cut_from_a_map_and_shifted() -> None:
    whole = np.random.default_rng(0).random((20, 30))
    tiles = np.stack([[whole[y : y + 12, x : x + 14] for x in (0, 8, 16)] for y in (0, 8)])  # (2, 3, 12, 14)
    assert consistency_error(tiles, (4, 6)) == 0
    tiles[0, 1] += 0.5  # its left, right and lower neighbours: two overlaps of 12 x 6 px, one of 4 x 14
    pixels = 4 * 12 * 6 + 3 * 4 * 14
    assert consistency_error(tiles, (4, 6)) == pytest.approx(0.5 * (2 * 12 * 6 + 4 * 14) / pixels)
    assert np.isnan(consistency_error(tiles[:1, :1], (4, 6)))
    assert np.isnan(consistency_error(tiles, (0, 0)))
    with pytest.raises(ValueError, match="cannot overlap by 13"):
        consistency_error(tiles, (13, 6))


def _slow_f1(pred: np.ndarray, truth: np.ndarray) -> float:
    """boundary_f1 with a tolerance of 1 px, pixel by pixel."""
    levels = np.linspace(1.02, 1.15, 10)
    scores, weights = [], []
    for t in levels:
        ours, theirs = _boundaries(pred, t), _boundaries(truth, t)
        if theirs:
            precision = np.mean([_has_match(b, theirs) for b in ours]) if ours else 0.0
            recall = np.mean([_has_match(b, ours) for b in theirs])
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
            weights.append(t)
    return float(np.average(scores, weights=weights))


def _boundaries(depth: np.ndarray, t: float) -> set[tuple[str, int, int]]:
    """(direction, row, column) of all pairs whose ratio exceeds t."""
    found = set()
    for y, x in np.ndindex(depth.shape):
        for name, dy, dx in (("right", 0, 1), ("down", 1, 0)):
            if y + dy < depth.shape[0] and x + dx < depth.shape[1]:
                here, there = depth[y, x], depth[y + dy, x + dx]
                if max(here, there) / min(here, there) > t:
                    found.add((name + ("+" if there > here else "-"), y, x))
    return found


def _has_match(boundary: tuple[str, int, int], others: set[tuple[str, int, int]]) -> bool:
    direction, y, x = boundary
    return any((direction, y + dy, x + dx) in others for dy in (-1, 0, 1) for dx in (-1, 0, 1))
