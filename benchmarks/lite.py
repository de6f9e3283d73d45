"""The embedded coarse network on procedural scenes that it has never seen, beside a constant.

    python benchmarks/lite.py [--scenes 60]

Scenes of another seed than the training's, photographed as in training. The constant is each scene's own median, which
no network is told. The second figure is of the prediction given the scene's scale, too (median of truth / prediction).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.nn import functional as F

from prv2cli.coarse.load import load_coarse
from prv2cli.evaluation.metrics.pixels import abs_rel
from prv2cli.hub.resolve import resolve
from prv2cli.scenes.make import make_scene
from prv2cli.training.samples.augment import photograph

HELD_OUT_SEED = 1_000_003
SIZE = 384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--model", default="lite", help="name or path of the network")
    args = parser.parse_args()
    network = load_coarse(resolve(args.model), torch.device("cpu"), None)
    errors = []
    for index in range(args.scenes):
        scene = make_scene((HELD_OUT_SEED, index), SIZE)
        picture = photograph(scene.rgb, np.random.default_rng((HELD_OUT_SEED, index)))
        with torch.inference_mode():
            low = network.predict(picture, None).values
        predicted = F.interpolate(low, scene.depth.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
        everywhere = np.ones(scene.depth.shape, bool)
        constant = np.full_like(scene.depth, np.median(scene.depth))
        scaled = predicted * np.median(scene.depth / predicted)
        errors.append([abs_rel(depth, scene.depth, everywhere) for depth in (predicted, scaled, constant)])
    metric, scaled, constant = np.mean(errors, axis=0)
    print(
        f"{args.scenes} held-out scenes: AbsRel {metric:.3f}, with the scene's scale {scaled:.3f}; ", end=""
    )
    print(f"of the scene's median {constant:.3f}")


if __name__ == "__main__":
    main()
