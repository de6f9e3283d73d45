"""The embedded coarse network on photographs that it has never seen, beside a constant and, if wanted, another network.

    python benchmarks/lite.py [--rgbd data/rgbd] [--truth FOLDER] [--scenes 60] [--model lite --model old.safetensors]

--rgbd    the sets that configs/lite.yaml holds something out of: only what is held out is measured
--truth   scenes as benchmarks/accuracy.py takes them: <scene>/rgb.png and <scene>/depth.npy (float32 metres, 0 = not
          measured)
--scenes  procedural scenes of another seed than the training's, photographed as in training

AbsRel and the share of pixels within a factor of 1.25 (d1), in three ways: as the network says it; with the scale of
each image given (ratio of medians); with scale and shift given (least squares in inverse depth, nothing farther than
twice the farthest truth). The constant is each image's median of the truth, which no network is told. `no sky`: without
what datasets/rgbd.py takes for a clear sky and its rim, where stereo invents surfaces. `relative`: the share of images
to whose depth the network gives no unit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from prv2cli.coarse.load import load_coarse
from prv2cli.coarse.network import CoarseNetwork
from prv2cli.datasets.rgbd import Knowledge, Rgbd, sky
from prv2cli.evaluation.alignment import align
from prv2cli.evaluation.metrics.pixels import abs_rel, delta
from prv2cli.extras import import_opencv
from prv2cli.hub.resolve import resolve
from prv2cli.model.layers import resize as resize_map
from prv2cli.scenes.make import make_scene
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.mixture import MixtureData
from prv2cli.training.samples.augment import photograph

CONFIG = Path(__file__).parents[1] / "configs" / "lite.yaml"
HELD_OUT_SEED = 1_000_003
SIZE = 384
SKY_RIM = 4  # px of the depth map
WAYS = ("as it is", "scale", "scale and shift")


class Picture(NamedTuple):
    """rgb (H, W, 3) uint8; truth (h, w) depth of the same aspect; mask: where it is measured."""

    rgb: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    metres: bool


def held_out(root: Path) -> Iterator[tuple[str, list[Picture]]]:
    """What the shipped configuration keeps from training, set by set; those with a wrong sky also without it."""
    data = load_train_config(CONFIG, [f"data.root={root}"]).data
    assert isinstance(data, MixtureData)
    for part in data.sets:
        if not part.hold_out:
            continue
        as_stored = part.model_copy(update={"sky_is_far": False})
        samples = Rgbd(data.data_of(as_stored, held_out=True))
        pictures, without_sky = [], []
        for sample in (samples[index] for index in range(len(samples))):
            mask = ~np.isnan(sample.inverse) & (sample.inverse > 0)
            truth = np.where(mask, 1 / np.where(mask, sample.inverse, 1), 0)
            picture = Picture(sample.rgb, truth, mask, sample.known is Knowledge.METRES)
            pictures.append(picture)
            if part.sky_is_far:
                without_sky.append(picture._replace(mask=mask & ~_sky_and_rim(sample.rgb, mask.shape)))
        yield part.folder, pictures
        if without_sky:
            yield f"{part.folder}, no sky", without_sky


def _sky_and_rim(rgb: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The clear sky, and what is so near to it that stereo's surfaces there are wider than the things."""
    rows, columns = size
    found = sky(rgb, (rows, columns)).astype(np.uint8)
    return import_opencv().dilate(found, np.ones((2 * SKY_RIM + 1, 2 * SKY_RIM + 1), np.uint8)) > 0


def scenes_with_truth(folder: Path) -> Iterator[tuple[str, list[Picture]]]:
    """Each scene by itself."""
    for place in sorted(path.parent for path in folder.glob("*/depth.npy")):
        truth = np.load(place / "depth.npy")
        rgb = np.asarray(Image.open(place / "rgb.png").convert("RGB"))
        yield place.name, [Picture(rgb, truth, truth > 0, True)]


def procedural(count: int) -> Iterator[tuple[str, list[Picture]]]:
    """Scenes as one set."""
    pictures = []
    for index in range(count):
        scene = make_scene((HELD_OUT_SEED, index), SIZE)
        rgb = photograph(scene.rgb, np.random.default_rng((HELD_OUT_SEED, index)))
        pictures.append(Picture(rgb, scene.depth, np.ones(scene.depth.shape, bool), True))
    if pictures:
        yield f"{count} scenes", pictures


def measure(depth: np.ndarray, picture: Picture) -> list[tuple[float, float]]:
    """AbsRel and d1 in the three ways; NaN where the truth is not in metres and nothing is given."""
    truth, mask = picture.truth.astype(np.float64), picture.mask
    limit = 2 * float(truth[mask].max())
    found = [(np.nan, np.nan)]
    if picture.metres:
        found = [(abs_rel(depth, truth, mask), delta(depth, truth, mask))]
    scaled = align(depth, truth, mask, "scale").values
    found.append((abs_rel(scaled, truth, mask), delta(scaled, truth, mask)))
    if float(np.ptp(depth)) > 0:
        scaled = align(depth, truth, mask, "scale-shift", "disparity", limit).values
    found.append((abs_rel(scaled, truth, mask), delta(scaled, truth, mask)))
    return found


def predict(network: CoarseNetwork | None, picture: Picture) -> tuple[np.ndarray, bool]:
    """(h, w) depth of a network, or the constant, and whether it is in metres."""
    size = picture.truth.shape
    if network is None:
        return np.full(size, np.median(picture.truth[picture.mask])), True
    with torch.inference_mode():
        found = network.predict(picture.rgb, None)
    return resize_map(found.values, size, False)[0, 0].numpy().astype(np.float64), found.unit == "metre"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rgbd", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--scenes", type=int, default=0)
    parser.add_argument("--limit", type=int, help="only so many pictures of a set, evenly chosen")
    parser.add_argument("--model", action="append", help="name or path of a network; may be given again")
    args = parser.parse_args()
    names = args.model or ["lite"]
    networks: list[CoarseNetwork | None] = [None]
    networks += [load_coarse(resolve(name), torch.device("cpu"), None) for name in names]
    print(f"{'':24}{'':16}" + "".join(f"{way + ': AbsRel d1':>27}" for way in WAYS) + f"{'relative':>10}")
    sets = [
        *(held_out(args.rgbd) if args.rgbd else ()),
        *(scenes_with_truth(args.truth) if args.truth else ()),
    ]
    for what, pictures in [*sets, *procedural(args.scenes)]:
        if args.limit and len(pictures) > args.limit:
            chosen = np.linspace(0, len(pictures) - 1, args.limit).astype(int)
            pictures = [pictures[index] for index in chosen]
        for name, network in zip(["constant", *names], networks, strict=True):
            predicted = [predict(network, picture) for picture in pictures]
            figures = np.mean(
                [measure(depth, picture) for (depth, _), picture in zip(predicted, pictures, strict=True)], 0
            )
            cells = "".join(f"{error:>18.3f} {close:>8.3f}" for error, close in figures)
            relative = 1 - np.mean([metres for _, metres in predicted])
            print(f"{what:24}{Path(name).stem[-15:]:16}{cells}{relative:>10.0%}", flush=True)


if __name__ == "__main__":
    main()
