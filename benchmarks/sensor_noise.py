"""Noisy maps of few pixels, as depth sensors give them: accuracy.py --fault sensor.

    disparity in 8-bit levels --> area-average to 1/factor --> + Gaussian noise, deviation 651 / level
           --bilinear--> filters, fast bilateral solver; refiner behind the small map; mean absolute error, in levels

The noise is that of the literature on noisy up-sampling (Park et al., ICCV 2011; Ferstl et al., ICCV 2013). A level is
a pixel of the full-size disparity; the offset that the scenes' metres have in them is taken off so that the farthest
surface has FARTHEST levels, less where the nearest would pass 255. A rival counts at its best setting of each factor.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bilateral_solver
import classical
import cv2
import numpy as np

if TYPE_CHECKING:
    from prv2cli import Refiner

FACTORS = (2, 4, 8, 16)
BASELINE = 3.740 * 160  # level = BASELINE / metres, plus an offset
FARTHEST = 60.0
NOISE = 651.0
STRENGTHS = (2.0, 8.0, 32.0, 128.0)  # of the bilateral solver
GRIDS = (bilateral_solver.Steps(8, 4, 4), bilateral_solver.Steps(8, 8, 8))
BARS = {2: 0.40, 4: 0.45, 8: 0.50, 16: 0.60}  # of the bilinear map's error
SOLVER = "fast bilateral solver"
_LOG_SCALE = 100.0  # the classical filters work on the log of what they get
Errors = dict[str, float]  # scene -> mean absolute error in levels


@dataclass(frozen=True)
class Case:
    """One scene at one factor; maps in levels of disparity."""

    scene: str
    factor: int
    rgb: np.ndarray  # (H, W, 3) uint8
    noisy: np.ndarray  # (h, w)
    truth: np.ndarray  # (H, W)
    mask: np.ndarray  # (H, W) bool, True = measured

    @cached_property
    def bilinear(self) -> np.ndarray:
        size = self.truth.shape[::-1]
        return cv2.resize(self.noisy, size, interpolation=cv2.INTER_LINEAR)

    def error(self, found: np.ndarray) -> float:
        """Mean absolute error; a hole would slip through the mean, so it ends the run."""
        if found.shape != self.truth.shape or not np.isfinite(found).all():
            raise SystemExit(f"{self.scene}, 1/{self.factor}: a result with holes or of size {found.shape}")
        return float(np.abs(found - self.truth)[self.mask].mean())


def make_case(folder: Path, factor: int, fill_holes: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Case:
    """The scene in a folder, made small and noisy."""
    picture: Any = cv2.imread(str(folder / "rgb.png"))
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    depth = np.load(folder / "depth.npy").astype(np.float32)
    mask = depth > 0
    level = BASELINE / fill_holes(depth, mask)
    level -= level.min() - max(1.0, min(FARTHEST, 255 - float(np.ptp(level))))
    size = (round(level.shape[1] / factor), round(level.shape[0] / factor))
    low = cv2.resize(level, size, interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(zlib.crc32(f"{folder.name}/{factor}/sensor".encode()))
    noisy = low + np.asarray(rng.standard_normal(low.shape), np.float32) * NOISE / low
    return Case(folder.name, factor, rgb, noisy, level, mask)


def rivals(factor: int) -> Iterator[tuple[str, str, Callable[[Case], np.ndarray]]]:
    """(family, setting, method); up-sampling is left out, which filters by the noisy map's own few pixels."""
    yield "bilinear", "-", lambda case: case.bilinear
    for family, setting, run in classical.settings(factor):
        if family in ("guided filter", "joint bilateral filter"):
            yield family, setting, partial(_filtered, run)
    for strength in STRENGTHS:
        for grid in GRIDS:
            yield SOLVER, f"lambda {strength:g}, colour {grid.luma:g}", partial(_solved, strength, grid)


def _filtered(run: classical.Filter, case: Case) -> np.ndarray:
    rgb = case.rgb.astype(np.float32) / 255
    low, up = (np.exp(levels / _LOG_SCALE) for levels in (case.noisy, case.bilinear))
    return np.log(run(rgb, low, up)) * _LOG_SCALE


def _solved(strength: float, grid: bilateral_solver.Steps, case: Case) -> np.ndarray:
    trust = np.ones(case.truth.shape, np.float32)
    return bilateral_solver.solve(case.rgb, case.bilinear, trust, strength, grid)


def refined(refiner: Refiner, case: Case) -> np.ndarray:
    """The small noisy map through the refiner, as a relative inverse map without a zero."""
    return refiner.refine(
        case.rgb, coarse_depth=case.noisy, coarse_kind="inverse", coarse_unit="relative"
    ).depth


def run(
    data: Path,
    factors: tuple[int, ...],
    refiner: Refiner | None,
    fill_holes: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Measure, print and judge every factor; what `--json` writes."""
    report: dict[str, Any] = {}
    folders = sorted(path.parent for path in data.glob("*/depth.npy"))
    if not folders:
        raise SystemExit(f"{data}: no <scene>/depth.npy in it; --data wants the folder of the scenes")
    for factor in factors:
        cases = [make_case(folder, factor, fill_holes) for folder in folders]
        best = _best(cases)
        ours = {case.scene: case.error(refined(refiner, case)) for case in cases} if refiner else {}
        report[str(factor)] = {"rivals": best, "prv2": ours, "passed": _tell(factor, best, ours)}
    return report


def _best(cases: list[Case]) -> dict[str, dict[str, Any]]:
    """family -> its best setting and the errors that it has."""
    best: dict[str, dict[str, Any]] = {}
    for family, setting, method in rivals(cases[0].factor):
        print(f"1/{cases[0].factor}: {family}, {setting}", file=sys.stderr, flush=True)
        errors = {case.scene: case.error(method(case)) for case in cases}
        mean = _mean(errors)
        if family not in best or mean < best[family]["mean"]:
            best[family] = {"mean": mean, "setting": setting, "scenes": errors}
    return best


def _tell(factor: int, best: dict[str, dict[str, Any]], ours: Errors) -> bool:
    print(f"\n## sensor noise, 1/{factor}: mean absolute error in levels of disparity\n")
    scenes = list(best["bilinear"]["scenes"])
    print("| method | mean | " + " | ".join(scenes) + " | setting |")
    print("|" + "---|" * (len(scenes) + 3))
    rows = [(family, found["mean"], found["scenes"], found["setting"]) for family, found in best.items()]
    if ours:
        rows.append(("**prv2**", _mean(ours), ours, ""))
    for name, mean, errors, setting in rows:
        cells = " | ".join(f"{errors[scene]:.2f}" for scene in scenes)
        print(f"| {name} | {mean:.2f} | {cells} | {setting} |")
    if not ours:
        return False
    share = _mean(ours) / best["bilinear"]["mean"]
    verdicts = {
        f"of the bilinear map's error: {share:.2f} (limit {BARS.get(factor, math.nan):.2f})": share
        <= BARS.get(factor, math.nan),
        f"below the {SOLVER}: {_mean(ours):.2f} ({best[SOLVER]['mean']:.2f})": _mean(ours)
        < best[SOLVER]["mean"],
    }
    print(f"\nThe bar at 1/{factor}:")
    for what, passed in verdicts.items():
        print(f"  {'PASS' if passed else 'FAIL'}  {what}")
    return all(verdicts.values())


def _mean(errors: Errors) -> float:
    return sum(errors.values()) / len(errors)
