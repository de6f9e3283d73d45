"""Two refiners of one shape, each of a run of its own, in one file: as `prv2 train` does with `blurred`.

    python benchmarks/join.py REFINER --blurred BLURRED --steeper 1.1 -o OUT

What is done outside of the network is as configs/refiner-s.yaml has it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from interpolate import as_in_the_recipe

from prv2cli.checkpoints.model_file import read_checkpoint, write_tensors
from prv2cli.model.config import RefinerConfig
from prv2cli.training.both import joined
from prv2cli.training.start import widened


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("refiner", type=Path)
    parser.add_argument("--blurred", type=Path, required=True)
    parser.add_argument("--steeper", type=float, default=1.0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    refiner, blurred = read_checkpoint(args.refiner), read_checkpoint(args.blurred)
    assert isinstance(refiner.config, RefinerConfig)
    refiner = replace(refiner, config=as_in_the_recipe(refiner.config))
    blurred = replace(blurred, tensors=widened(blurred.tensors, refiner.build()))
    both = joined(refiner, blurred, args.steeper)
    write_tensors(args.out, both.stored, both.config, both.provenance, half=True)


if __name__ == "__main__":
    main()
