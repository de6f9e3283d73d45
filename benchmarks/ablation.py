"""The ablation of docs/ablation.md: every variant of configs/ablation, three seeds each, on procedural scenes.

    python benchmarks/ablation.py --out runs/ablation [--only NAME ...] [--seeds 1 2 3] [--steps N] [--pictures FOLDER]

Each run is `prv2 train --config configs/ablation/NAME.yaml seed=N`, in this one process to save the start-up. What is
finished is not done again. The figures go to OUT/results.json, the tables to the screen. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.cli.app import main as main_of_prv2
from prv2cli.datasets.samples import Sample
from prv2cli.depth_files.ours.preview import colourise
from prv2cli.evaluation.config import Measuring
from prv2cli.evaluation.measure import measure
from prv2cli.evaluation.metrics.edges import depth_edges, edge_band
from prv2cli.refine.fuse import Depth
from prv2cli.refine.refiner import Refiner
from prv2cli.resampling.maps import bilinear
from prv2cli.restoration.blur import blur
from prv2cli.scenes.make import make_scene
from prv2cli.training.samples.augment import photograph

CONFIGS = Path(__file__).parents[1] / "configs" / "ablation"
SIZE = 256  # of every scene
MEDIAN = 2.0  # metres: of every scene of the first domain, so that its scale is not asked
# Haze tells depth in a single photograph, at any resolution: without it small networks learn next to nothing here.
HAZE, HAZE_COLOUR = 0.8, (190, 210, 255)  # scattered a metre; sRGB
HELD_OUT, HELD_OUT_SEED = 24, 1_000_003
TRAINING, FIRST_SEED, SECOND_SEED = 320, 11, 12  # scenes of a domain, and what they are drawn from
# The second domain: four times as large, with little colour, seen by a camera.
LARGER, COLOURFUL = 4.0, 0.25
SPARSE, BLIND = 6, 2  # px: the grid of true depths, and how near to an edge there is none
FACTOR = 4  # of the spoilt maps: area-average, then a blur of one of their pixels
REFINER = ("no-c2f", "fused", "gated", "paper-widths")  # behind spoilt maps
FROM_PRETRAINING = ("pretrained", "end-to-end")
BUNDLE = ("bundle", *FROM_PRETRAINING)
START = ("teacher", "second")  # of a transfer: what gives the detail, and what is to receive it
TRANSFER = tuple(f"transfer-{name}" for name in ("none", "ranking", "ssi", "ssigm", "ssigm-local"))
FIGURES = {"AbsRel": "abs_rel", "edge AbsRel": "edge_abs_rel", "SILog": "silog", "boundary F1": "boundary_f1"}
MEASURING = Measuring(cap=(1e-3, 300.0), boundaries=False)
SHOWN = 3  # scenes in a picture


class Run(NamedTuple):
    """One training: a configuration and a seed."""

    name: str
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.seed}"


# --- the two domains ------------------------------------------------------------------------------------------


def first_domain(seed: int, count: int) -> Iterator[Sample]:
    """Still lifes in haze, each with the same median depth."""
    for index in range(count):
        scene = make_scene((seed, index), SIZE, style="still-life")
        depth = scene.depth * np.float32(MEDIAN / np.median(scene.depth))
        yield Sample(f"{index:03}", hazy(scene.rgb, depth), depth)


def hazy(rgb: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 seen through haze (H, W) metres deep."""
    seen = np.exp(-np.float32(HAZE) * depth)[..., None]
    return (seen * rgb + (1 - seen) * np.array(HAZE_COLOUR, np.float32)).round().astype(np.uint8)


def second_domain(seed: int, count: int) -> Iterator[Sample]:
    """The same, larger, paler and photographed."""
    for sample in first_domain(seed, count):
        grey = sample.rgb.mean(axis=2, keepdims=True)
        pale = (grey + COLOURFUL * (sample.rgb - grey)).round().astype(np.uint8)
        rgb = photograph(pale, np.random.default_rng((seed, int(sample.name))))
        yield Sample(sample.name, rgb, sample.truth * np.float32(LARGER))


def spoilt_domain(seed: int, count: int) -> Iterator[Sample]:
    """Still lifes as they are rendered; `spoilt` makes their coarse maps."""
    for index in range(count):
        scene = make_scene((seed, index), SIZE, style="still-life")
        yield Sample(f"{index:03}", scene.rgb, scene.depth)


DOMAINS = {"spoilt": spoilt_domain, "first": first_domain, "second": second_domain}


def spoilt(truth: np.ndarray) -> np.ndarray:
    """(H, W) metres -> the coarse map of a variant in REFINER."""
    small = Image.fromarray(truth).resize((SIZE // FACTOR, SIZE // FACTOR), Image.Resampling.BOX)
    return blur(torch.from_numpy(np.array(small))[None, None], sigma=1)[0, 0].numpy()


def sparse(truth: np.ndarray) -> np.ndarray:
    """What a range sensor gives of (H, W) metres: a grid of points, none beside an edge; 0 = not known."""
    known = np.zeros(truth.shape, bool)
    known[SPARSE // 2 :: SPARSE, SPARSE // 2 :: SPARSE] = True
    known &= ~edge_band(depth_edges(truth, np.ones(truth.shape, bool)), BLIND)
    return np.where(known, truth, np.float32(0))


def write_training_data(out: Path) -> None:
    """Photographs and depth as `data.layout: folder` reads them: dense in the first domain, sparse in the second."""
    domains = {"first": first_domain(FIRST_SEED, TRAINING), "second": second_domain(SECOND_SEED, TRAINING)}
    for domain, samples in domains.items():
        if (out / domain).exists():
            continue
        partial = out / f"{domain}.partial"
        for kind in ("images", "depth"):
            (partial / kind).mkdir(parents=True, exist_ok=True)
        for sample in samples:
            truth = sample.truth if domain == "first" else sparse(sample.truth)
            np.save(partial / "depth" / f"{sample.name}.npy", truth)
            Image.fromarray(sample.rgb).save(partial / "images" / f"{sample.name}.png")
        partial.rename(out / domain)


def held_out(out: Path, domain: str) -> list[Sample]:
    """Scenes that no run has seen, with exact depth; drawn once."""
    path = out / f"held-out-{domain}.npz"
    if not path.exists():
        samples = list(DOMAINS[domain](HELD_OUT_SEED, HELD_OUT))
        arrays = {"rgb": [s.rgb for s in samples], "depth": [s.truth for s in samples]}
        np.savez(path, rgb=np.stack(arrays["rgb"]), depth=np.stack(arrays["depth"]))
    with np.load(path) as arrays:
        return [
            Sample(f"{i:03}", *pair)
            for i, pair in enumerate(zip(arrays["rgb"], arrays["depth"], strict=True))
        ]


# --- runs -----------------------------------------------------------------------------------------------------


def needed(name: str, seed: int) -> Iterator[Run]:
    """A run, after those that it starts from."""
    if name not in ("coarse", *REFINER):
        yield from needed("coarse", 1)
    if name in FROM_PRETRAINING:
        yield Run("pretrain", seed)
    if name == "second":
        yield Run("coarse-second", 1)
        yield Run("teacher", seed)
    if name.startswith("transfer-"):
        yield from needed("second", seed)
    yield Run(name, 1 if name == "coarse" else seed)


def overrides(run: Run, out: Path, steps: int | None) -> dict[str, Any]:
    """Where the run finds what others left in `out`."""

    def model(name: str, seed: int = run.seed) -> str:
        return str(out / f"{name}-{seed}" / "last.safetensors")

    changes: dict[str, Any] = {"seed": run.seed} | ({"steps": steps} if steps else {})
    if run.name in REFINER:
        return changes | {"data.cache": out / "scenes"}
    changes["data.root"] = out / ("second" if domain_of(run.name) == "second" else "first")
    if run.name in TRANSFER:
        return changes | {"start_from": model("second"), "transfer.teacher": model("teacher")}
    if run.name in FROM_PRETRAINING:
        changes["start_from"] = model("pretrain")
    if run.name == "second":
        return changes | {"start_from": model("teacher"), "coarse_from": model("coarse-second", 1)}
    if run.name not in ("coarse", "pretrain"):
        changes["coarse_from"] = model("coarse", 1)
    return changes


def train(run: Run, out: Path, steps: int | None) -> None:
    """`prv2 train`, unless the run is finished."""
    folder = out / run.folder
    if (folder / "done").exists():
        return
    changes = [f"{key}={value}" for key, value in overrides(run, out, steps).items()]
    config = CONFIGS / f"{run.name}.yaml"
    print(f"prv2 train --config {config.name} {' '.join(changes)}", flush=True)
    try:
        main_of_prv2(["train", "--config", str(config), "-o", str(folder), "-q", *changes])
    except SystemExit as end:
        if end.code:
            raise
    (folder / "done").touch()


def seconds(folder: Path) -> float:
    """How long a run trained."""
    return float(read_checkpoint(folder / "last.safetensors").provenance["training_seconds"])


# --- figures --------------------------------------------------------------------------------------------------


def estimates(model: Path, samples: Iterable[Sample]) -> Iterator[tuple[Sample, Depth]]:
    refiner = Refiner(read_checkpoint(model), device="cpu", precision="fp32")
    for sample in samples:
        if refiner.bundle:
            yield sample, refiner.refine(sample.rgb, mode="m1")
        else:
            yield sample, refiner.refine(sample.rgb, coarse_depth=spoilt(sample.truth))


def figures_of(model: Path, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """{"coarse" | "refined": {column: mean over the scenes}}."""
    each: dict[str, list[dict[str, float]]] = {"coarse": [], "refined": []}
    for sample, estimate in estimates(model, samples):
        coarse = bilinear(estimate.coarse, sample.truth.shape)
        for row, depth in {"coarse": coarse, "refined": estimate.depth}.items():
            each[row].append(one_scene(depth, sample.truth))
    return {
        row: {key: float(np.mean([f[key] for f in found])) for key in FIGURES} for row, found in each.items()
    }


def one_scene(depth: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    figures = measure(depth, truth, MEASURING).figures
    return {column: figures[name] for column, name in FIGURES.items()}


def domain_of(name: str) -> str:
    if name in REFINER:
        return "spoilt"
    return "second" if name in ("coarse-second", "second", *TRANSFER) else "first"


# --- tables and pictures --------------------------------------------------------------------------------------


def table(results: dict[str, Any], names: Sequence[str], *start: str) -> str:
    """Markdown: mean and standard deviation over the seeds, the better direction in the head; `start` on top."""
    lines = ["| variant | runs | AbsRel ↓ | edge AbsRel ↓ | SILog ↓ | boundary F1 ↑ | s a run |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in (*start, *names):
        runs = [result for result in results.values() if result["name"] == name]
        if runs:
            cells = [spread([run["figures"][column] for run in runs]) for column in FIGURES]
            cost = f"{statistics.mean(run['seconds'] for run in runs):.0f}"
            lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} | {cost} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    digits = 4 if mean < 1 else 2
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{deviation}"


def picture(path: Path, out: Path, samples: Sequence[Sample], names: Sequence[str], seed: int) -> None:
    """Rows of scenes: photograph, truth, coarse map, and the depth of each variant, from left to right."""
    chosen = samples[:SHOWN]
    columns = [[sample.rgb for sample in chosen], [colourise(sample.truth) for sample in chosen]]
    for name in names:
        found = [one for _, one in estimates(out / f"{name}-{seed}" / "last.safetensors", chosen)]
        if name == names[0]:
            columns.append([colourise(bilinear(one.coarse, one.depth.shape)) for one in found])
        columns.append([colourise(one.depth) for one in found])
    rows = [np.concatenate(row, axis=1) for row in zip(*columns, strict=True)]
    Image.fromarray(np.concatenate(rows)).save(path, quality=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[*REFINER, *BUNDLE, *TRANSFER])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, help="of every run, to try it; into a folder of its own")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="make the pictures of what is run too"
    )
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    write_training_data(out)
    samples = {domain: held_out(out, domain) for domain in DOMAINS}
    path = out / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for seed in arguments.seeds:
        for name in arguments.only:
            for run in needed(name, seed):
                train(run, out, arguments.steps)
            measure_run(Run(name, seed), out, samples, results)
            path.write_text(json.dumps(results, indent=1))
    print(table(results, REFINER, "spoilt"))
    print(table(results, BUNDLE, "coarse"))
    print(table(results, TRANSFER, *START))
    shown = {"spoilt": REFINER, "first": BUNDLE, "second": (*reversed(START), *TRANSFER)}
    for domain, names in shown.items() if arguments.pictures else ():
        if set(names) <= {*arguments.only, *START}:
            target = arguments.pictures / f"ablation-{domain}.jpg"
            picture(target, out, samples[domain], names, arguments.seeds[0])


def measure_run(run: Run, out: Path, samples: dict[str, list[Sample]], results: dict[str, Any]) -> None:
    """Add the run's figures, and of what it began with: the coarse map; before a transfer, the two bundles."""
    domain = domain_of(run.name)
    for name in START if run.name in TRANSFER else ():
        keep(name, run.seed, out / f"{name}-{run.seed}", samples[domain], results)
    keep(run.name, run.seed, out / run.folder, samples[domain], results)
    start = {"gated": "spoilt", "bundle": "coarse"}.get(run.name)  # what all began with; frozen in a bundle
    if start:
        before = results[run.folder]["own_coarse"]
        cost = seconds(out / "coarse-1") if start == "coarse" else 0.0
        results[f"{start}-1"] = {"name": start, "seed": 1, "figures": before, "seconds": cost}


def keep(name: str, seed: int, folder: Path, samples: Sequence[Sample], results: dict[str, Any]) -> None:
    key = f"{name}-{seed}"
    if key in results:
        return
    figures = figures_of(folder / "last.safetensors", samples)
    found = {"name": name, "seed": seed, "seconds": seconds(folder)}
    results[key] = found | {"figures": figures["refined"], "own_coarse": figures["coarse"]}
    print(key, json.dumps(results[key]), flush=True)


if __name__ == "__main__":
    main()
