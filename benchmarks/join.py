"""Two refiners of one shape in one file: one for maps that were blurred and nothing else, one for all others.

    python benchmarks/join.py REFINER --blurred BLURRED --steeper 1.1 -o OUT

What a blurred map lost can be undone exactly, what a network or a sensor has wrong cannot: weights for both give up a
tenth of what weights for one reach. Which is used the program tells from the map itself (refine/prepare.py). The
matrices are stored as 16-bit numbers, so that the two take the room of one.

--steeper: how much steeper than in training the second one chooses between the two surfaces at an edge: fewer points
fly between them, and where it errs it errs by more.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from interpolate import as_in_the_recipe
from torch import Tensor

from prv2cli.checkpoints.model_file import BLURRED, Checkpoint, read_checkpoint, write_tensors
from prv2cli.model.config import RefinerConfig
from prv2cli.training.start import widened


def joined(refiner: Checkpoint, blurred: Checkpoint, steeper: float) -> Checkpoint:
    """The refiner with the tensors of the other beside its own; the rest as in the recipe."""
    assert isinstance(refiner.config, RefinerConfig)
    config = as_in_the_recipe(refiner.config)
    second = steepened(widened(blurred.tensors, refiner.build()), steeper)
    replace(refiner, tensors=second).build()  # refuses what is of another shape
    told = {**refiner.provenance, BLURRED.rstrip("."): {**blurred.provenance, "steeper": steeper}}
    return replace(refiner, config=config, blurred=second, provenance=told)


def steepened(tensors: dict[str, Tensor], steeper: float) -> dict[str, Tensor]:
    """With the head's choice `steeper`: the first third of its outputs (prv2cli/model/refiner/heads.py)."""
    found = dict(tensors)
    for name in ("head.to_surfaces.weight", "head.to_surfaces.bias"):
        choice, rest = tensors[name].float().tensor_split([len(tensors[name]) // 3])
        found[name] = torch.cat([steeper * choice, rest])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("refiner", type=Path)
    parser.add_argument("--blurred", type=Path, required=True)
    parser.add_argument("--steeper", type=float, default=1.0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    both = joined(read_checkpoint(args.refiner), read_checkpoint(args.blurred), args.steeper)
    write_tensors(args.out, both.stored, both.config, both.provenance, half=True)


if __name__ == "__main__":
    main()
