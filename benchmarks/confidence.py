"""Whether the confidence knows where the depth is wrong, measured on photographs with true depth.

    python benchmarks/confidence.py --data FOLDER [--model NAME_OR_PATH] [--factors 8 16] [--json FILE]
    python benchmarks/confidence.py --imitators FOLDER [--model NAME_OR_PATH]

--data: folder, coarse maps and scores are those of accuracy.py. --imitators: where a training run keeps its imitators;
the maps are those of the one that training never sees, of held-out procedural scenes (hand_made.py). For each way of
getting several predictions of a pixel:

    rank    Spearman's rank correlation of 1 - confidence with |d - d*| / d*, over the measured pixels whose
            confidence is known; 1 = the same order, 0 = no relation
    known   the share of the measured pixels whose confidence is known, %

"steepness" is no disagreement: |gradient of log-depth| of the same result, the simplest guess of where a depth
map is wrong. AbsRel and the others are those of the result, to be compared with the row "no confidence".
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import hand_made
import numpy as np
from accuracy import METRICS, Case, _mean, _note, _print_row, load_cases
from scipy.stats import spearmanr

WAYS: dict[str, dict[str, Any]] = {
    "no confidence": {},
    "--confidence (flip)": {"confidence": True},
    "tile 256, overlap 0.5": {"confidence": True, "tta": "none", "tile": 256, "overlap": 0.5},
    "mode m2": {"confidence": True, "tta": "none", "mode": "m2"},
}
COLUMNS = ("rank", "steepness", "known", *METRICS, "seconds")
TITLES = ["rank", "steepness", "known %", *(title for title, _ in METRICS.values()), "seconds"]

Row = dict[str, float]


def measure(refiner: Any, case: Case, options: dict[str, Any]) -> Row:
    start = time.perf_counter()
    result = refiner.refine(case.rgb, coarse_depth=case.bilinear, **options)
    row = {"seconds": time.perf_counter() - start, **case.score(result.depth)}
    error = np.abs(result.depth - case.truth) / np.where(case.mask, case.truth, 1)
    slope = np.hypot(*np.gradient(np.log(result.depth)))
    row["steepness"] = rank_correlation(slope[case.mask], error[case.mask])
    row["rank"] = row["known"] = float("nan")
    if result.confidence is not None:
        known = case.mask & np.isfinite(result.confidence)
        row["rank"] = rank_correlation(1 - result.confidence[known], error[known])
        row["known"] = 100 * np.count_nonzero(known) / np.count_nonzero(case.mask)
    return row


def measure_behind_networks(refiner: Any, imitators: Path) -> None:
    """One line: the same figures behind maps of a network, relative inverse depth as the result is."""
    ranks, slopes, known = [], [], []
    for given in hand_made.network_like(imitators):
        inverse = given.given.values
        result = refiner.refine(
            given.rgb, coarse_depth=inverse, coarse_kind="inverse", coarse_unit="relative", confidence=True
        )
        error = given.error(result.depth)
        sure = np.isfinite(result.confidence)
        ranks.append(rank_correlation(1 - result.confidence[sure], error[sure]))
        slopes.append(rank_correlation(np.hypot(*np.gradient(result.depth)).ravel(), error.ravel()))
        known.append(100 * float(sure.mean()))
    told = f"rank {np.mean(ranks):.3f} ({min(ranks):.3f} to {max(ranks):.3f})"
    print(
        f"network-like, {len(ranks)} scenes: {told}, steepness {np.mean(slopes):.3f}, known {np.mean(known):.1f} %"
    )


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a, b).statistic)


def print_report(factor: int, found: dict[str, dict[str, Row]]) -> None:
    print(f"\n## 1/{factor}, mean of {len(next(iter(found.values())))} scenes\n")
    _print_row("way", TITLES)
    _print_row("---", ["---"] * len(TITLES))
    for way, scenes in found.items():
        _print_row(way, [_mean([row[c] for row in scenes.values()]) for c in COLUMNS])
    print("\nrank, scene by scene\n")
    ways = [way for way, options in WAYS.items() if options]
    _print_row("scene", ways)
    _print_row("---", ["---"] * len(ways))
    for scene in next(iter(found.values())):
        _print_row(scene, [found[way][scene]["rank"] for way in ways])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the scenes")
    parser.add_argument("--imitators", type=Path, help="where a training run keeps its imitators")
    parser.add_argument(
        "--model", default="auto", help="name or path of the refiner; default: the shipped one"
    )
    parser.add_argument("--factors", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args()
    if not (args.data or args.imitators):
        parser.error("nothing to measure: give --data or --imitators")

    from prv2cli import Refiner

    refiner = Refiner.from_pretrained(args.model, coarse=None, device="cpu")
    if args.imitators:
        measure_behind_networks(refiner, args.imitators)
    report = {}
    for factor in args.factors if args.data else ():
        found: dict[str, dict[str, Row]] = {way: {} for way in WAYS}
        for case in load_cases(args.data, factor):
            for way, options in WAYS.items():
                found[way][case.scene] = measure(refiner, case, options)
                _note(f"1/{factor} {case.scene}, {way}: rank {found[way][case.scene]['rank']:.3f}")
        print_report(factor, found)
        report[str(factor)] = found
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
