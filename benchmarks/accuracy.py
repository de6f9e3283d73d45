"""How much sharper and truer a refiner makes a coarse depth map, measured on photographs with true depth.

    python benchmarks/accuracy.py --data FOLDER [--model NAME_OR_PATH] [--factors 8 16] [--json FILE]
    python benchmarks/accuracy.py --data FOLDER --fault noisy     # or displaced, or thin: see faults.py
    python benchmarks/accuracy.py --data FOLDER --fault sensor    # disparity of few, noisy pixels: see sensor_noise.py

FOLDER holds one folder per scene with rgb.png and depth.npy (float32 metres, 0 = not measured).

    truth, holes filled by nearest --> area-average to 1/factor --> blur, sigma 1 low-res px --> x distortion
          --> coarse map --bilinear--> full-size map --> filters, refiner; scored against truth x distortion

The distortion is a smooth field of 3 x 3 cells, at most 1 %, that no method can observe; its seed is the
name of the scene and the factor. Every method gets the same maps. A classical filter counts at its best
setting for each metric (best mean over the scenes), so it may use different settings in one row. A scene
without depth edges has no edge metrics and is left out of their means. Flying pixels: see flying_pixels.
The seam excess is how much steeper the map is across the borders of tiles of TILE px than beside them, less what
the map refined in the usual, far larger tiles shows at the same places: a depth edge may lie there.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import classical
import cv2
import numpy as np
import sensor_noise
from faults import FAULTS

from prv2cli.evaluation.metrics.boundary_f1 import boundary_f1
from prv2cli.evaluation.metrics.edge_errors import edge_abs_rel, flying_pixels, soft_edge_error
from prv2cli.evaluation.metrics.pixels import abs_rel

if TYPE_CHECKING:
    from prv2cli import Refiner

METRICS = {
    "abs_rel": ("AbsRel %", abs_rel),
    "edge_abs_rel": ("edge AbsRel %", edge_abs_rel),
    "see": ("SEE %", soft_edge_error),
    "f1": ("F1", boundary_f1),
}
HIGHER_IS_BETTER = {"f1"}
NEVER_WORSE = ("abs_rel", "edge_abs_rel", "f1")  # than the bilinear map, on any scene
BARS = {  # lower by a share of the best classical value; f1: higher by so many points
    8: {"abs_rel": 0.55, "edge_abs_rel": 0.60, "f1": 45.0},
    16: {"abs_rel": 0.40, "edge_abs_rel": 0.40, "f1": 30.0},
}
FAULT_BAR = {"abs_rel": 0.0, "edge_abs_rel": 0.0}  # behind a faulty coarse map: no worse than the best
# The rivals that the bar names. Up-sampling filters the low-resolution samples themselves, which is harder to beat.
NAMED = ("bilinear", "guided filter", "joint bilateral filter")
FLYING_BAR, SEAM_BAR = 2.0, 2.0  # percent, at most
TILE = 256  # px
DISTORTION = 0.01

Scores = dict[str, float]  # metric -> value in percent or points
SceneScores = dict[str, Scores]  # scene -> scores


@dataclass(frozen=True)
class Case:
    """One scene at one factor: what the methods see, and what they are scored against."""

    scene: str
    factor: int
    rgb: np.ndarray  # (H, W, 3) uint8
    coarse: np.ndarray  # (h, w) float32 metres
    truth: np.ndarray  # (H, W) float32 metres, distorted as the coarse map is
    mask: np.ndarray  # (H, W) bool, True = measured

    fault: str = "none"

    @cached_property
    def bilinear(self) -> np.ndarray:
        return _resize_bilinear(self.coarse, self.truth.shape)

    def score(self, depth: np.ndarray) -> Scores:
        """All metrics of one full-size map; a hole in it would slip through the means, so it ends the run."""
        if depth.shape != self.truth.shape or not np.isfinite(depth).all():
            raise SystemExit(f"{self.scene}, 1/{self.factor}: a result with holes or of size {depth.shape}")
        scores = {name: f(depth, self.truth, self.mask) for name, (_, f) in METRICS.items()}
        scores["flying"] = flying_pixels(depth, self.truth, self.mask)
        return {name: 100 * score for name, score in scores.items()}


@dataclass(frozen=True)
class Verdict:
    """One line of the bar."""

    what: str
    value: float
    limit: float
    passed: bool


def load_cases(data: Path, factor: int, fault: str = "none") -> list[Case]:
    folders = sorted(p.parent for p in data.glob("*/depth.npy"))
    if not folders:
        raise SystemExit(f"{data}: no <scene>/depth.npy in it; --data wants the folder of the scenes")
    return [make_case(folder, factor, fault) for folder in folders]


def make_case(folder: Path, factor: int, fault: str = "none") -> Case:
    picture = cv2.imread(str(folder / "rgb.png"))
    if picture is None:
        raise SystemExit(f"{folder}: no rgb.png in it")
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    truth = np.load(folder / "depth.npy").astype(np.float32)
    mask = truth > 0
    low_size = (round(truth.shape[0] / factor), round(truth.shape[1] / factor))
    seed = zlib.crc32(f"{folder.name}/{factor}".encode())
    spoil, rng = FAULTS[fault], np.random.default_rng((seed, 1))
    seen = spoil.before(_fill_holes(truth, mask), factor, rng)
    coarse = cv2.resize(seen, low_size[::-1], interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT)
    coarse = spoil.after(coarse, factor, rng)
    field = _distortion(low_size, seed)
    truth = truth * (1 + _resize_bilinear(field, truth.shape))
    return Case(folder.name, factor, rgb, coarse * (1 + field), truth, mask, fault)


def _fill_holes(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Every unmeasured pixel takes the depth of the nearest measured one."""
    holes = (~mask).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    by_label = np.zeros(labels.max() + 1, np.float32)
    by_label[labels[mask]] = depth[mask]
    return by_label[labels]


def _distortion(size: tuple[int, int], seed: int) -> np.ndarray:
    """A bicubic field over 3 x 3 random nodes, scaled so that its largest magnitude is 1 %."""
    nodes = np.random.default_rng(seed).standard_normal((3, 3)).astype(np.float32)
    field = cv2.resize(nodes, size[::-1], interpolation=cv2.INTER_CUBIC)
    return field * np.float32(DISTORTION / np.abs(field).max())


def _resize_bilinear(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Half-pixel centres, border repeated: torch's bilinear with align_corners=False."""
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def score_classical(cases: list[Case]) -> dict[str, dict[str, SceneScores]]:
    """family -> setting -> scene -> scores; the bilinear map is a family of one setting."""
    results: dict[str, dict[str, SceneScores]] = {}
    for case in cases:
        _note(f"1/{case.factor} {case.scene}: classical filters")
        results.setdefault("bilinear", {}).setdefault("-", {})[case.scene] = case.score(case.bilinear)
        rgb = case.rgb.astype(np.float32) / 255
        for family, setting, run in classical.settings(case.factor):
            depth = run(rgb, case.coarse, case.bilinear)
            results.setdefault(family, {}).setdefault(setting, {})[case.scene] = case.score(depth)
    return results


def score_refiner(cases: list[Case], refiner: Refiner, pictures: Path | None) -> SceneScores:
    results = {}
    for case in cases:
        start = time.perf_counter()
        depth = refiner.refine(case.rgb, coarse_depth=case.bilinear).depth
        _note(f"1/{case.factor} {case.scene}: refined in {time.perf_counter() - start:.1f} s")
        results[case.scene] = case.score(depth) | {"seam": 100 * _seam(case, refiner, depth)}
        if pictures:
            _save_picture(pictures / f"{case.scene}_{case.factor}.png", case, depth)
    return results


def _seam(case: Case, refiner: Refiner, depth: np.ndarray) -> float:
    from prv2cli.model.depth_space import INVISIBLE_STEP
    from prv2cli.refine.request import RefineRequest
    from prv2cli.tiling.blend import seam_excess

    tiled = refiner.refine(case.rgb, coarse_depth=case.bilinear, tile=TILE).depth
    height, width = depth.shape
    plan = refiner.plan(height, width, RefineRequest.of(tile=TILE).tiling)
    seen, usual = (seam_excess(np.log(one), plan, floor=INVISIBLE_STEP) for one in (tiled, depth))
    return seen - usual


def load_refiner(model: str | None) -> Refiner:
    from prv2cli import Refiner

    return Refiner.from_pretrained(*([model] if model else []), coarse=None, device="cpu")


def _save_picture(path: Path, case: Case, depth: np.ndarray) -> None:
    """Photograph, bilinear map, result and truth side by side; near is red."""
    near, far = np.percentile(1 / case.truth[case.mask], (99.5, 0.5))
    panels = [cv2.cvtColor(case.rgb, cv2.COLOR_RGB2BGR)]
    for metres in (case.bilinear, depth, np.where(case.mask, case.truth, np.inf)):
        shade = np.clip((1 / metres - far) / (near - far), 0, 1) * 255
        panels.append(cv2.applyColorMap(shade.astype(np.uint8), cv2.COLORMAP_TURBO))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.hstack(panels))


def mean_scores(scenes: SceneScores) -> Scores:
    return {m: _mean([scores[m] for scores in scenes.values()]) for m in METRICS}


def best_settings(family: dict[str, SceneScores]) -> dict[str, tuple[float, str]]:
    """metric -> (best mean over the scenes, the setting that reaches it)."""
    means = {setting: mean_scores(scenes) for setting, scenes in family.items()}
    best = {}
    for m in METRICS:
        choose = max if m in HIGHER_IS_BETTER else min
        setting = choose(means, key=lambda s: means[s][m])
        best[m] = (means[setting][m], setting)
    return best


def judge(
    bars: dict[str, float], ours: SceneScores, rivals: dict[str, dict[str, SceneScores]]
) -> list[Verdict]:
    means = mean_scores(ours)
    best = {family: best_settings(settings) for family, settings in rivals.items()}
    verdicts = []
    for m, bar in bars.items():
        higher = m in HIGHER_IS_BETTER
        for families, note in ((NAMED, ""), (tuple(best), ", joint bilateral up-sampling among the rivals")):
            values = [best[family][m][0] for family in families]
            limit = max(values) + bar if higher else min(values) * (1 - bar)
            verdicts.append(_verdict(f"mean {METRICS[m][0]}{note}", means[m], limit, higher))
    for scene, base in rivals["bilinear"]["-"].items():
        for m in NEVER_WORSE:
            if not math.isnan(base[m]):
                what = f"{scene} {METRICS[m][0]} against bilinear"
                verdicts.append(_verdict(what, ours[scene][m], base[m], m in HIGHER_IS_BETTER))
    flying, seam = (_mean([scores[key] for scores in ours.values()]) for key in ("flying", "seam"))
    verdicts.append(_verdict("mean flying pixels near edges %", flying, FLYING_BAR, higher=False))
    verdicts.append(_verdict(f"mean seam excess % at tiles of {TILE} px", seam, SEAM_BAR, higher=False))
    return verdicts


def _verdict(what: str, value: float, limit: float, higher: bool) -> Verdict:
    return Verdict(what, value, limit, value >= limit if higher else value <= limit)


def print_report(factor: int, rivals: dict[str, dict[str, SceneScores]], ours: SceneScores | None) -> None:
    scenes = rivals["bilinear"]["-"]
    print(f"\n## 1/{factor}, mean of {len(scenes)} scenes\n")
    _print_row("method", [title for title, _ in METRICS.values()])
    _print_row("---", ["---"] * len(METRICS))
    best = {family: best_settings(settings) for family, settings in rivals.items()}
    for family, values in best.items():
        _print_row(family, [values[m][0] for m in METRICS])
    if ours:
        _print_row("**prv2**", list(mean_scores(ours).values()))
    print("\nBest settings:")
    for family in (f for f in best if f != "bilinear"):
        print(f"  {family}: " + "; ".join(f"{METRICS[m][0]}: {s}" for m, (_, s) in best[family].items()))
    print()
    _print_row("scene: bilinear -> prv2" if ours else "scene: bilinear", [t for t, _ in METRICS.values()])
    _print_row("---", ["---"] * len(METRICS))
    for scene, base in scenes.items():
        cells = [f"{base[m]:.2f}" + (f" -> {ours[scene][m]:.2f}" if ours else "") for m in METRICS]
        _print_row(scene, cells)


def print_flying(scenes: SceneScores, ours: SceneScores) -> None:
    shares = [_mean([scores["flying"] for scores in method.values()]) for method in (ours, scenes)]
    print("\nFlying pixels near edges: {:.1f} %; of the bilinear map {:.1f} %".format(*shares))


def print_verdicts(factor: int, verdicts: list[Verdict]) -> None:
    print(f"\nThe bar at 1/{factor}:")
    for v in verdicts:
        print(f"  {'PASS' if v.passed else 'FAIL'}  {v.what}: {v.value:.3f} (limit {v.limit:.3f})")


def _print_row(name: str, cells: list[str] | list[float]) -> None:
    texts = [cell if isinstance(cell, str) else f"{cell:.2f}" for cell in cells]
    print("| " + " | ".join([name.ljust(27), *(text.rjust(14) for text in texts)]) + " |")


def _mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("--model", help="name or path of the refiner; default: the shipped one")
    faults = [*FAULTS, "sensor"]
    parser.add_argument("--fault", choices=faults, default="none", help="of the coarse maps")
    parser.add_argument("--factors", type=int, nargs="+", help="default: 8 16; with --fault sensor 2 4 8 16")
    parser.add_argument("--json", type=Path, help="write all scores and verdicts here")
    parser.add_argument("--pictures", type=Path, help="folder for photograph | bilinear | prv2 | truth")
    parser.add_argument("--classical-only", action="store_true", help="score no refiner")
    parser.add_argument("--reuse", type=Path, help="an earlier --json file: keep its classical scores")
    return parser.parse_args()


def _earlier(path: Path, fault: str) -> dict[str, Any]:
    """The scores of an earlier run behind the same maps."""
    found = json.loads(path.read_text())
    if found.get("fault") != fault:
        raise SystemExit(f"--reuse {path}: it was measured with --fault {found.get('fault')}, not {fault}")
    return dict(found["factors"])


def main() -> None:
    args = _parse()
    earlier = _earlier(args.reuse, args.fault) if args.reuse else {}
    refiner = None if args.classical_only else load_refiner(args.model)
    if args.fault == "sensor":
        factors = tuple(args.factors or sensor_noise.FACTORS)
        sensor = sensor_noise.run(args.data, factors, refiner, _fill_holes)
        if args.json:
            args.json.write_text(json.dumps({"model": args.model, "sensor": sensor}, indent=1))
        return
    report = {}
    for factor in args.factors or (8, 16):
        cases = load_cases(args.data, factor, args.fault)
        known = earlier.get(str(factor))
        rivals = known["classical"] if known else score_classical(cases)
        ours = score_refiner(cases, refiner, args.pictures) if refiner else None
        verdicts = (
            judge(BARS.get(factor, {}) if args.fault == "none" else FAULT_BAR, ours, rivals) if ours else []
        )
        print_report(factor, rivals, ours)
        if ours:
            print_flying(rivals["bilinear"]["-"], ours)
            print_verdicts(factor, verdicts)
        report[str(factor)] = {
            "classical": rivals,
            "prv2": ours,
            "verdicts": [asdict(v) for v in verdicts],
            "passed": bool(verdicts) and all(v.passed for v in verdicts),
        }
    if args.json:
        args.json.write_text(
            json.dumps({"model": args.model, "fault": args.fault, "factors": report}, indent=1)
        )


if __name__ == "__main__":
    main()
