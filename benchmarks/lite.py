"""The embedded coarse network on procedural scenes that it has never seen, beside a constant.

    python benchmarks/lite.py [--scenes 60]

Scenes of another seed than the training's, photographed as in training. Prediction and constant are both given each
scene's own scale (the median of truth / prediction), since a scene's scale can hardly be seen in its picture.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from prv2cli import hub
from prv2cli.checkpoint import read_checkpoint
from prv2cli.data.augment import photograph
from prv2cli.metrics import abs_rel
from prv2cli.scenes import make_scene

HELD_OUT_SEED = 1_000_003
SIZE = 384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=60)
    count = parser.parse_args().scenes
    model = read_checkpoint(hub.resolve("lite").path).build()
    errors = []
    for index in range(count):
        scene = make_scene((HELD_OUT_SEED, index), SIZE)
        picture = photograph(scene.rgb, np.random.default_rng((HELD_OUT_SEED, index)))
        with torch.inference_mode():
            rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
            predicted = model(rgb).depth[0, 0].numpy()
        everywhere = np.ones(scene.depth.shape, bool)
        scaled = predicted * np.median(scene.depth / predicted)
        constant = np.full_like(scene.depth, np.median(scene.depth))
        errors.append([abs_rel(depth, scene.depth, everywhere) for depth in (scaled, constant)])
    ours, constant = np.mean(errors, axis=0)
    print(f"{count} held-out scenes: AbsRel {ours:.3f}, of the constant median {constant:.3f}")


if __name__ == "__main__":
    main()
