"""The pipeline over a data set, and what its tiles disagree about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from depth_pairs import HEIGHT, PLAIN, WIDTH, slope, stairs

from prv2cli import Refiner
from prv2cli.datasets.samples import Sample
from prv2cli.errors import InputError, UsageError
from prv2cli.evaluation.alignment import Aligned
from prv2cli.evaluation.config import Measuring
from prv2cli.evaluation.of_model import evaluate_model, tile_consistency
from prv2cli.refine.asked import AskedRefiner
from prv2cli.refine.request import Models, RefineRequest
from prv2cli.resampling.maps import bilinear


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
            depth=truth * (1 + self.error),
            coarse=truth[::2, ::2] * 1.2,
            seam=0.25 * key,
            unit=self.unit,
            seen=None,
        )


class Listed:
    """Samples in memory; an exception stands for a broken one."""

    def __init__(self, items: dict[str, Sample | Exception]) -> None:
        self.names: Sequence[str] = tuple(items)
        self._items = list(items.values())

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
    assert all(call == {"focal_px": 500.0} for call in refiner.calls)
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
    at_edges = (
        *("see", "depth_pro_f1", "boundary_f1", "moge_f1_1", "moge_f1_2", "moge_f1_3"),
        *("edge_abs_rel", "relative_see", "flying_pixels"),
    )
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


def test_mattes_are_measured_by_their_outline(tmp_path: Path) -> None:
    inside = np.zeros((HEIGHT, WIDTH), np.float32)
    inside[9:16, 9:20] = 1
    depth = np.where(inside > 0, 2, 5).astype(np.float32)
    unknown = np.full(depth.shape, np.nan, np.float32)
    matte = Sample("a", np.full((*depth.shape, 3), 1, np.uint8), unknown, matte=inside)
    refiner = StandIn({1: depth}, unit="relative")  # ratios are all that counts
    report = evaluate_model(refiner, Listed({"a": matte}), PLAIN)
    assert set(report.means()["refined"]) == {"matte_recall", "seam"}
    assert report.means()["refined"]["matte_recall"] == 1
    assert 0 < report.means()["coarse"]["matte_recall"] < 1  # half the size, brought back bilinearly
    with pytest.raises(UsageError, match="mattes have no true depth"):
        evaluate_model(refiner, Listed({"a": matte}), PLAIN, error_maps=tmp_path)


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


class BeforeTheSky(StandIn):
    """Sees no surface in the upper half, where its coarse map has an invented one."""

    def refine(self, rgb: np.ndarray, **options: Any) -> Any:
        found = super().refine(rgb, **options)
        if "coarse_depth" in options:
            return found
        half = len(found.depth) // 2
        found.depth[:half] = np.nan
        found.coarse[: half // 2] = 100
        found.seen = np.arange(len(found.coarse))[:, None] >= np.full(found.coarse.shape[1], half // 2)
        return found


def test_the_coarse_map_has_no_depth_either_where_its_network_sees_sky() -> None:
    truth = np.full((HEIGHT, WIDTH), 4, np.float32)
    truth[: HEIGHT // 2] = np.nan  # nothing measured there
    data = Listed({"a": sample("a", 1, truth), "b": sample("b", 2, np.full((HEIGHT, WIDTH), 4, np.float32))})
    truths = {1: np.full((HEIGHT, WIDTH), 4, np.float32), 2: np.full((HEIGHT, WIDTH), 4, np.float32)}
    report = evaluate_model(BeforeTheSky(truths), data, Measuring(boundaries=False))
    first, second = (image.figures for image in report.images)
    assert first["coarse"]["abs_rel"] == pytest.approx(0.2, rel=1e-3)
    assert second["coarse"]["missing"] == second["refined"]["missing"] > 0


def test_an_outline_before_the_sky_is_found_in_both_rows() -> None:
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[HEIGHT // 2 :] = 1
    rgb = np.full((HEIGHT, WIDTH, 3), 1, np.uint8)
    data = Listed({"a": Sample("a", rgb, np.full((HEIGHT, WIDTH), np.nan, np.float32), matte=matte)})
    refiner = BeforeTheSky({1: np.full((HEIGHT, WIDTH), 4, np.float32)})
    figures = evaluate_model(refiner, data, Measuring(boundaries=False)).images[0].figures
    assert figures["coarse"]["matte_recall"] == figures["refined"]["matte_recall"] > 0


def test_the_tiles_of_relative_depth_are_aligned_as_their_photograph() -> None:
    truth = np.linspace(1, 20, 40 * 80, dtype=np.float32).reshape(40, 80)

    class Relative(Counting):
        def refine(self, rgb: np.ndarray, **options: Any) -> Any:
            if "coarse_depth" in options:
                return super().refine(rgb, **options)
            return SimpleNamespace(depth=truth / 3, coarse=truth / 3, seam=0.0, unit="relative", seen=None)

    data = Listed({"a": sample("a", 1, truth)})
    report = evaluate_model(Relative(), data, Measuring(boundaries=False, align="scale"), consistency=True)
    assert report.means()["refined"]["consistency_error"] == pytest.approx(3 * (1 + 7) / 2)


def test_the_shipped_model_end_to_end(photograph: np.ndarray) -> None:
    shipped = Refiner.load(Models("refiner-s", "lite", device="cpu", precision="fp32", trusting=True))
    refiner: Any = AskedRefiner(shipped, RefineRequest())
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
