"""Weights on the line between two refiners, one of which was trained on from the other.

    python benchmarks/interpolate.py FROM TO --share 0.7 -o OUT

What further training gains behind new kinds of coarse maps it partly forgets behind the old ones; between the two both
are kept better than at either end (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
OUT has TO's configuration, with what is done outside the network as configs/refiner-s.yaml has it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from prv2cli.checkpoints.model_file import read_checkpoint, save_checkpoint
from prv2cli.files.hashing import hash_file
from prv2cli.model.config import WITHOUT, RefinerConfig
from prv2cli.training.config.load import load_train_config
from prv2cli.training.start import widened

CONFIG = Path(__file__).parents[1] / "configs" / "refiner-s.yaml"


def as_in_the_recipe(config: RefinerConfig) -> RefinerConfig:
    """With what is done outside of the network as CONFIG has it."""
    recipe = load_train_config(CONFIG).model
    assert isinstance(recipe, RefinerConfig)
    return config.model_copy(update={key: getattr(recipe, key) for key in WITHOUT})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("begin", type=Path)
    parser.add_argument("end", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of END's weights, 0..1")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    begin, end = read_checkpoint(args.begin), read_checkpoint(args.end)
    assert isinstance(end.config, RefinerConfig)
    config = as_in_the_recipe(end.config)
    first = widened(begin.tensors, end.build())
    mixed = {
        name: first[name].float().lerp(tensor.float(), args.share).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in end.tensors.items()
    }
    ends = {
        name: {"sha256": hash_file(path), **checkpoint.provenance}
        for name, path, checkpoint in (("from", args.begin, begin), ("to", args.end, end))
    }
    model = replace(end, config=config, tensors=mixed).build()
    save_checkpoint(args.out, model, config, {"interpolated": {"share": args.share, **ends}})


if __name__ == "__main__":
    main()
