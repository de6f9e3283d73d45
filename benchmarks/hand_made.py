"""What the steps that no network does are worth: each left out, behind coarse maps of several kinds.

    python benchmarks/hand_made.py [--data FOLDER] [--real FOLDER] [--imitators FOLDER [--scenes N]]
        [--model NAME_OR_PATH] [--steps STEP ...]

| step            | where                                                                                      |
|-----------------|--------------------------------------------------------------------------------------------|
| noise           | restoration/noise/: noise is taken out before                                              |
| half-size       | the pass at half size behind wide edges                                                    |
| back-projection | restoration/back_projection.py                                                             |
| shock filter    | restoration/edges/shock_filter.py                                                          |
| weighted median | restoration/edges/weighted_median.py                                                       |
| own range       | restoration/own_range.py                                                                   |
| choice          | which maps are blurred ones: without it all, so that the steps above happen behind all     |
| second weights  | those for maps that were blurred and nothing else                                          |

simulated: accuracy.py's maps at 1/8 and 1/16. noisy: --fault sensor's at 1/4. network-like (--imitators): maps of the
network that training never sees, on held-out procedural scenes, beside them the map itself and what is in it: every
pixel as near to the truth as the least and the largest value of the map within some pixels let it be. real (--real):
FOLDER/<name>/{case.json, photo.*, coarse.*}, without truth: how much changed away from edges, and how much lies
outside what the coarse map has around.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import accuracy
import cv2
import numpy as np
import sensor_noise

from prv2cli import Refiner
from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.depth_files.given_map import read_given
from prv2cli.evaluation.metrics.boundary_f1 import boundary_f1
from prv2cli.evaluation.metrics.edge_errors import edge_abs_rel
from prv2cli.evaluation.metrics.pixels import abs_rel
from prv2cli.hub.resolve import resolve
from prv2cli.model.config import WITHOUT
from prv2cli.refine import fuse
from prv2cli.refine.prepare import Preparer
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject

CHANGED, NEAR = 0.02, 0.05  # of a map's range: a change; an edge
FAR = 400.0  # metres, of an inverse map at 0
REACHES = (2, 4)  # px within which the truth picks between the map's own values
Figures = dict[str, float]
CONFIG = Path(__file__).parents[1] / "configs" / "refiner-s.yaml"
CHOICE = fuse.BLURRED
SETTINGS = {
    "noise": "denoise",
    "back-projection": "back_projection",
    "shock filter": "shock_filter",
    "weighted median": "weighted_median",
    "own range": "own_range",
}
STEPS = (
    "all",
    "noise",
    "half-size",
    "back-projection",
    "shock filter",
    "weighted median",
    "own range",
    "choice",
    "second weights",
)


class Given(NamedTuple):
    """A coarse map, its photograph, and how the result is judged."""

    kind: str
    rgb: np.ndarray
    given: GivenDepth
    judge: Callable[[np.ndarray], Figures]
    truth: np.ndarray | None = None  # (H, W) metres, where all of it is known

    def error(self, inverse: np.ndarray) -> np.ndarray:
        """(H, W) |d - d*| / d* of a result in inverse depth."""
        assert self.truth is not None
        return np.asarray(np.abs(_depth(inverse) - self.truth) / self.truth)


def without(step: str, model: str) -> Refiner:
    """The refiner without a step ("all": with all of them)."""
    checkpoint = read_checkpoint(resolve(model).path)
    off = {SETTINGS[step]: WITHOUT[SETTINGS[step]]} if step in SETTINGS else {}
    if step == "second weights":
        checkpoint = replace(checkpoint, blurred={})
    refiner = Refiner(
        replace(checkpoint, config=checkpoint.config.model_copy(update=off)), None, device="cpu"
    )
    fuse.BLURRED = 1.0 if step == "choice" else CHOICE
    if step == "half-size":
        assert hasattr(Preparer, "_has_wide_edges")
        setattr(refiner.preparer, "_has_wide_edges", lambda *_: False)  # noqa: B010
    return refiner


def simulated(data: Path) -> Iterator[Given]:
    for factor in (8, 16):
        for case in accuracy.load_cases(data, factor):
            yield Given(f"simulated 1/{factor}", case.rgb, GivenDepth(case.bilinear), partial(_scored, case))


def _scored(case: accuracy.Case, depth: np.ndarray) -> Figures:
    scores = case.score(depth)
    return {"edges %": scores["edge_abs_rel"], "F1": scores["f1"], "flying %": scores["flying"]}


def noisy(data: Path) -> Iterator[Given]:
    for path in sorted(data.glob("*/depth.npy")):
        case = sensor_noise.make_case(path.parent, 4, accuracy._fill_holes)
        given = GivenDepth(case.noisy, "inverse", "relative")
        yield Given("noisy 1/4", case.rgb, given, partial(_off_by, case))


def _off_by(case: sensor_noise.Case, found: np.ndarray) -> Figures:
    return {"levels": case.error(found)}


def network_like(imitators: Path, scenes: int = 8) -> Iterator[Given]:
    from prv2cli.training.config.load import load_train_config
    from prv2cli.training.unseen import MEASURED, held_out

    changes = [f"maps.imitators.cache={imitators}", f"maps.validation={scenes}", f"data.cache={imitators}"]
    config = load_train_config(CONFIG, changes)
    for case in held_out(config, MEASURED):
        rgb = (case.rgb[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        values = case.coarse[0, 0].numpy()
        given = GivenDepth(values, "inverse", "relative")
        yield Given("network-like", rgb, given, partial(_against, case.truth, values), case.truth)


def _depth(inverse: np.ndarray) -> np.ndarray:
    return (1 / np.maximum(inverse, 1 / FAR)).astype(np.float32)


def _against(truth: np.ndarray, coarse: np.ndarray, inverse: np.ndarray) -> Figures:
    depth, mask = _depth(inverse), np.ones(truth.shape, bool)
    edges = edge_abs_rel(depth, truth, mask)
    return {
        "AbsRel %": 100 * abs_rel(depth, truth, mask),
        "edges %": 100 * edges,
        "lower by % in the mean scene": 100 * (1 - edges / edge_abs_rel(_depth(coarse), truth, mask)),
        "F1": 100 * boundary_f1(depth, truth, mask),
    }


def _picked(one: Given, reach: int) -> np.ndarray:
    """(H, W) inverse depth: of what lies between the map's values within `reach` pixels, the nearest to the truth."""
    assert one.truth is not None
    high, low = _around(one.given.values, reach)
    return np.clip(1 / one.truth, low, high)


def _in_the_maps(maps: Sequence[Given]) -> Iterator[str]:
    """Rows of what the maps with known truth are worth, and of what is in them."""
    known = [one for one in maps if one.truth is not None]
    for reach in (0, *REACHES) if known else ():
        name = f"the map, the best within {reach} px" if reach else "the map"
        yield from _rows(name, {known[0].kind: [one.judge(_picked(one, reach)) for one in known]})


def _rows(name: str, found: dict[str, list[Figures]]) -> Iterator[str]:
    for kind, figures in found.items():
        means = {key: np.nanmean([one[key] for one in figures]) for key in figures[0]}
        yield f"| {name} | {kind} | {', '.join(f'{key} {mean:.2f}' for key, mean in means.items())} |"


def real(folder: Path) -> Iterator[Given]:
    for file in sorted(folder.glob("*/case.json")):
        case = json.loads(file.read_text())
        photo, coarse = (next(file.parent.glob(f"{name}.*")) for name in ("photo", "coarse"))
        inverse = case["kind"] == "inverse"
        found = read_given(
            coarse, relative=inverse, kind=case["kind"], scale=None if inverse else case["scale"]
        )
        picture: Any = cv2.imread(str(photo))
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        up = cv2.resize(found.values, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        given = GivenDepth(found.values, found.kind, found.unit, found.half_step)
        yield Given("real", rgb, given, partial(_harm, up, float(case["unit_px"])))


def _harm(coarse: np.ndarray, unit: float, found: np.ndarray) -> Figures:
    known = np.isfinite(coarse)
    coarse = np.where(known, coarse, found)
    span = float(np.ptp(np.percentile(coarse, (2, 98))))
    around = partial(_around, reach=max(1, round(1.5 * unit)))
    high, low = around(coarse)
    near = _around((high - low > NEAR * span).astype(np.uint8), max(2, round(3 * unit)))[0] > 0
    high, low = _around(coarse, max(2, round(3 * unit)))
    outside = np.maximum(found - high, low - found) > CHANGED * span
    changed = np.abs(found - coarse) > CHANGED * span
    return {
        "away %": 100 * float(changed[~near & known].mean()),
        "over %": 100 * float(outside[near & known].mean()),
    }


def _around(values: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
    return cv2.dilate(values, kernel), cv2.erode(values, kernel)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the scenes with truth")
    parser.add_argument("--real", type=Path, help="folder of real maps")
    parser.add_argument("--imitators", type=Path, help="where a training run keeps its imitators")
    parser.add_argument("--scenes", type=int, default=8, help="held-out scenes behind them, an even number")
    parser.add_argument("--model", default="refiner-s", help="name or path of the refiner")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    args = parser.parse_args()
    maps = [*simulated(args.data), *noisy(args.data)] if args.data else []
    maps += network_like(args.imitators, args.scenes) if args.imitators else []
    maps += real(args.real) if args.real else []
    for row in _in_the_maps(maps):
        print(row, flush=True)
    for step in args.steps:
        refiner, found = without(step, args.model), dict[str, list[Figures]]()
        for one in maps:
            result = refiner.run([Subject(one.rgb, None, one.given)], RefineRequest())[0]
            found.setdefault(one.kind, []).append(one.judge(result.depth))
        name = "all steps" if step == "all" else f"without {step}"
        print(*_rows(name, found), sep="\n", flush=True)


if __name__ == "__main__":
    main()
